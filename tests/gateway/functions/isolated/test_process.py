"""The end of a process in words, and processes that cannot be started."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders.isolated_project import ANSWER, call, play
from turnout.gateway.functions.isolated.functions import IsolatedFunctions
from turnout.gateway.functions.isolated.process import (
    FunctionCode,
    Process,
    describe_exit,
    make_settings,
    make_variables,
)


@pytest.mark.parametrize(
    ("code", "text"), [(0, "exit status 0"), (3, "exit status 3"), (-9, "signal: killed"), (-200, "signal: 200")]
)
def test_an_end_is_reported_in_the_words_of_lambda(code: int, text: str) -> None:
    assert describe_exit(code) == text


@pytest.mark.parametrize(("memory_mb", "threads"), [(128, "2"), (3008, "2"), (5307, "3"), (10240, "6")])
def test_threads_depend_on_memory_as_the_processors_of_lambda_do(
    code_of: Mapping[str, FunctionCode], memory_mb: int, threads: str
) -> None:
    code = code_of["plain"]
    settings = replace(code.function.settings, memory_mb=memory_mb)
    sized = replace(code, function=replace(code.function, settings=settings))
    assert make_variables(sized, "127.0.0.1:1", "stream")["OMP_NUM_THREADS"] == threads


def test_a_router_reads_the_tables_of_its_project_and_nothing_else_there(
    code_of: Mapping[str, FunctionCode], tmp_path: Path
) -> None:
    code = replace(code_of["plain"], choices=tmp_path / "choices")
    variables = make_variables(code, "127.0.0.1:1", "s")
    assert variables["TURNOUT_CHOICES"] == str(tmp_path / "choices")
    assert str(tmp_path / "choices") in json.loads(make_settings(code, variables, "scratch"))["code"]
    assert "TURNOUT_CHOICES" not in make_variables(code_of["plain"], "127.0.0.1:1", "s")


def test_a_process_that_cannot_be_started_fails_its_callers(
    code_of: Mapping[str, FunctionCode], tmp_path: Path
) -> None:
    code = replace(code_of["plain"], task=tmp_path / "nowhere")

    async def scenario(functions: IsolatedFunctions) -> None:
        invocation = await call(functions, ANSWER, model="plain")
        assert invocation.error == "failed"
        assert "cannot be started" in invocation.message

    play([code], scenario)


def test_a_process_can_be_closed_while_it_runs(code_of: Mapping[str, FunctionCode]) -> None:
    async def scenario() -> str:
        process = Process(code_of["stuck"], make_variables(code_of["stuck"], "127.0.0.1:1", "s"), lambda _: None)
        return process.close()

    assert asyncio.run(scenario()) == "signal: killed"
