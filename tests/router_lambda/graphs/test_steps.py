"""The events of a graph's steps."""

from __future__ import annotations

import numpy as np

from router_lambda.graphs.steps import step_event
from turnout.protocol.requests.runs import KEY, AsyncRun, read_draw, read_run, spell_run
from turnout.protocol.routing.step_tensors import Tensor
from turnout.protocol.tensors.datatypes import DATATYPES

TENSORS = {"x": Tensor(DATATYPES["FP32"], np.ones((1, 2), np.float32))}


def test_step_of_an_asynchronous_run_keeps_the_draw_but_not_the_graphs_files() -> None:
    said = spell_run(AsyncRun("/tmp/body", "/tmp/answer", 100), 0.25)
    said[KEY]["stored"] = {"body": "bodies/prod/b", "answer": "answers/prod/a"}
    caller = {"headers": {}, "body": None, "turnout": {"hop": 1, **said}}
    made = step_event(caller, TENSORS, "iris v1")
    assert made["turnout"] == {"hop": 1, KEY: {"draw": 0.25}}
    run = read_run(made)
    assert run is not None
    assert (run.body_file, run.answer_file) == ("", "")
    assert read_draw(made, "iris") == read_draw(caller, "iris")
    assert "turnout" not in step_event({"headers": {}, "body": None}, TENSORS, "iris v1")
