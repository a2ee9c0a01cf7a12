"""The parts of a gateway with several processes, each tested alone."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tests.builders.graphs import write_identity
from turnout.gateway.api.gateway import Gateway
from turnout.gateway.editions.changes import carry_over, describe_changes
from turnout.gateway.editions.edition import Edition, build_gateway, check_files, make_edition
from turnout.gateway.editions.in_process import edition_functions, make_model_functions
from turnout.gateway.editions.rebuild import (
    find_files,
    read_rebuilt,
    rebuild,
    take_edition,
    without_texts,
    write_rebuilt,
)
from turnout.gateway.editions.switch import Served, Switch
from turnout.gateway.functions.invocation import Functions
from turnout.gateway.rules.stages import CanarySettings, StageSettings
from turnout.gateway.shared.state import ControlState, SharedState
from turnout.gateway.workers.channel import Channel
from turnout.gateway.workers.processors import processors
from turnout.gateway.workers.restarts import Restarts
from turnout.gateway.workers.supervisor import describe_exit
from turnout.http_server.messages import Request, Response
from turnout.manifest.parser import Throttle
from turnout.project.project import load_project

MANIFEST = """
platform: turnout
models:
  echo:
    versions:
      v1: {artifact: echo.onnx}
      v2: {artifact: echo.onnx}
  other:
    versions:
      v1: {artifact: echo.onnx}
stages:
  dev: {serve: {echo: v1, "*": newest}}
  keyed: {serve: {"*": newest}, auth: api_key, throttle: {rate: 10, burst: 20}}
"""
BODY = b'{"inputs":{"x":[[1,2,3,4]]}}'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "models.yaml").write_text(MANIFEST)
    return tmp_path


def read(project: Path, *edits: tuple[str, str]) -> Edition:
    text = (project / "models.yaml").read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (project / "models.yaml").write_text(text)
    return make_edition(load_project(project / "models.yaml"))


def gateway_of(edition: Edition, functions: Functions) -> Gateway:
    return build_gateway(edition.project, edition.plan, functions, apis=edition.apis, keys=edition.keys)


def planned(edition: Edition) -> dict[str, StageSettings]:
    return {stage.name: stage for api in edition.apis for stage in api.stages}


# --- channels


@pytest.fixture
def channels() -> Iterator[tuple[Channel, Channel]]:
    pair = Channel.pair()
    yield pair
    for end in pair:
        end.close()


def test_messages_arrive_complete_in_order_with_their_files(channels: tuple[Channel, Channel], tmp_path: Path) -> None:
    one, other = channels
    assert other.receive() is None
    (tmp_path / "file").write_text("content")
    with (tmp_path / "file").open() as file:
        one.send("first", 1, "a", files=(file.fileno(),))
    one.send("second", "x" * 20_000)
    first, second = other.receive(), other.receive()
    assert first is not None
    assert second is not None
    assert (first.kind, first.values) == ("first", (1, "a"))
    with os.fdopen(first.files[0]) as file:
        assert file.read() == "content"
    assert (second.kind, len(second.values[0]), second.files) == ("second", 10_000, ())
    one.close()
    with pytest.raises(EOFError):
        other.receive()


def test_a_message_without_space_is_sent_later(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    sent = 0
    while one.try_send("number", sent):
        sent += 1
    one.send("number", sent)
    assert one.is_waiting
    assert not one.try_send("number", -1)  # it must not overtake
    one.flush()
    seen = []
    while (message := other.receive()) is not None:
        seen.append(message.values[0])
        one.flush()
    assert seen == list(range(sent + 1))
    assert not one.is_waiting
    while one.try_send("number", 0):
        pass
    one.send("number", 1)
    other.close()
    one.flush()
    assert not one.is_waiting
    with pytest.raises(OSError, match="Broken pipe"):
        one.try_send("number", 2)


def test_a_channel_with_a_new_descriptor_still_works(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    before = one.fileno()
    one.move_up()
    assert one.fileno() > before
    one.send("still here")
    message = other.receive()
    assert message is not None
    assert message.kind == "still here"


# --- restarts, processors


def test_a_worker_is_restarted_immediately_and_then_with_growing_delays() -> None:
    restarts = Restarts()
    assert [restarts.delay_s(1) for _ in range(5)] == [0, 0.25, 0.5, 1, 2]
    assert [restarts.delay_s(1) for _ in range(50)][-1] == 30
    assert [restarts.delay_s(60), restarts.delay_s(1)] == [0, 0.25]  # it was healthy in the meantime


@pytest.mark.parametrize(
    ("quota", "most"), [("100000 100000\n", 1), ("50000 100000", 1), ("max 100000", None), ("nonsense", None)]
)
def test_the_processor_share_of_a_container_is_respected(tmp_path: Path, quota: str, most: int | None) -> None:
    allowed = len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text(quota)
    assert processors(tmp_path / "cpu.max") == (most or allowed)
    assert processors(tmp_path / "missing") == allowed


def test_an_exit_is_described_in_words() -> None:
    assert [describe_exit(code) for code in (-9, 1)] == ["killed by SIGKILL", "exit code 1"]


# --- editions


def test_changed_files_are_not_opened(project: Path) -> None:
    edition = read(project)
    function = edition.plan.functions[0]
    check_files(edition.fingerprints, function)
    make_model_functions(edition.project)(function).load()
    (project / "echo.onnx").write_bytes((project / "echo.onnx").read_bytes() + b"\x3a\x00")
    with pytest.raises(Exception, match=r"echo\.onnx has changed since models\.yaml was read"):
        make_model_functions(edition.project)(function).load()
    (project / "echo.onnx").unlink()
    with pytest.raises(Exception, match=r"No such file"):
        make_model_functions(edition.project)(function).load()


def test_touched_files_are_opened(project: Path) -> None:
    edition = read(project)
    function = edition.plan.functions[0]
    content = (project / "echo.onnx").read_bytes()
    (project / "echo.onnx").unlink()
    (project / "echo.onnx").write_bytes(content)
    os.utime(project / "echo.onnx", ns=(1, 1))
    check_files(edition.fingerprints, function)
    make_model_functions(edition.project)(function).load()


def test_changes_are_reported_by_name(project: Path) -> None:
    before = read(project)
    assert describe_changes(before, before) == ""
    after = read(
        project,
        ("echo: v1,", "echo: v2,"),
        ("  other:\n    versions:\n", "  third:\n    versions:\n"),
        ("      v2: {artifact: echo.onnx}", "      v2: {artifact: echo.onnx, memory_mb: 512}"),
        ("  keyed:", "  locked:"),
    )
    changes = describe_changes(before, after)
    assert changes.split(", ") == [
        "echo v2 changed",
        "third v1 is new",
        "other v1 was removed",
        "stage dev changed",
        "stage locked is new",
        "stage keyed was removed",
    ]
    described = read(project, ("  echo:\n", "  echo:\n    description: Says it again.\n"))
    assert describe_changes(after, described) == "descriptions and examples"


def test_many_changes_are_counted(project: Path) -> None:
    before = read(project)
    versions = "".join(f"      w{number}: {{artifact: echo.onnx}}\n" for number in range(20))
    after = read(project, ("      v2: {artifact: echo.onnx}\n", f"      v2: {{artifact: echo.onnx}}\n{versions}"))
    assert describe_changes(before, after).endswith("echo w7 is new, 13 more changes")


def test_a_manually_changed_stage_survives_unrelated_edits(project: Path) -> None:
    before = read(project)
    dev, keyed = planned(before).values()
    canary = CanarySettings(10, {"echo": "v2"}, dev.deployment_id)
    set_by_hand = replace(dev, canary=canary, throttle=Throttle(1, 1))
    state = ControlState(1, (set_by_hand, keyed), dict(before.api_keys))
    described = read(project, ("  echo:\n", "  echo:\n    description: Says it again.\n"))
    new = planned(described)["dev"]
    assert new.deployment_id != dev.deployment_id
    kept = carry_over(state, before, described)
    assert kept.stages[0] == replace(
        new, canary=replace(canary, deployment_id=new.deployment_id), throttle=Throttle(1, 1)
    )
    assert kept.api_keys == state.api_keys
    moved = read(project, ("echo: v1,", "echo: v2,"))
    assert carry_over(kept, described, moved).stages[0] == planned(moved)["dev"]


# --- reloading


def test_problems_are_those_of_validate_and_missing_files_are_watched(project: Path) -> None:
    before = read(project)
    (project / "models.yaml").write_text(
        MANIFEST.replace("other:", "other: {versions: {v1: {artifact: no.onnx}}}\n  x:")
    )
    rebuilt = rebuild(project / "models.yaml", before, functions_of=edition_functions, gateway_of=gateway_of)
    assert rebuilt.edition is None
    assert f"{project}/models.yaml:8:" in rebuilt.problems
    assert rebuilt.files[project / "no.onnx"] == (0, 0, 0)
    assert project in rebuilt.files


def test_an_unreadable_manifest_keeps_the_known_files(project: Path) -> None:
    before = read(project)
    (project / "models.yaml").write_text("a: [")
    rebuilt = rebuild(project / "models.yaml", before, functions_of=edition_functions, gateway_of=gateway_of)
    assert rebuilt.edition is None
    assert set(rebuilt.files) == {project / "models.yaml", project / "echo.onnx"}
    shutil.move(project / "models.yaml", project / "away.yaml")
    assert set(find_files(project / "models.yaml")) == {project / "models.yaml"}


def test_a_gateway_that_cannot_be_made_is_a_problem(project: Path) -> None:
    before = read(project)

    def refuse(edition: Edition, functions: Functions) -> Gateway:
        raise ValueError("no stage 'prod'")

    rebuilt = rebuild(project / "models.yaml", before, functions_of=edition_functions, gateway_of=refuse)
    assert rebuilt.problems == f"{project}/models.yaml: ValueError: no stage 'prod'"


def test_an_edition_is_passed_through_a_file(project: Path) -> None:
    before = read(project)
    rebuilt = rebuild(project / "models.yaml", before, functions_of=edition_functions, gateway_of=gateway_of)
    assert rebuilt.edition is not None
    assert rebuilt.edition == without_texts(before)
    file = os.memfd_create("test")
    write_rebuilt(rebuilt, file)
    assert read_rebuilt(file) == rebuilt
    assert take_edition(os.dup(file)) == rebuilt.edition
    assert take_edition(file) == rebuilt.edition
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(file)


@pytest.fixture(autouse=True)
def log_stays_on() -> Iterator[None]:
    """Restore logging: `rebuild` silences the log of its process."""
    yield
    logging.disable(logging.NOTSET)


# --- switching


async def post(switch: Switch, path: str) -> Response:
    headers = (("Host", "here"), ("content-type", "application/json"))
    answer = switch.handle(Request("POST", path, "", headers, BODY))
    return answer if isinstance(answer, Response) else await answer


def digest_of(response: Response) -> str:
    return dict(response.headers)["x-turnout-digest"]


def test_a_worker_switches_between_two_requests_and_keeps_what_is_unchanged(project: Path) -> None:
    async def scene() -> None:
        state = SharedState(1)
        first = read(project)
        state.publish(ControlState(1, tuple(planned(first).values()), dict(first.api_keys)))
        functions = edition_functions(first, None)
        unprepared: list[bool] = []
        opened: list[str] = []
        switch = Switch(
            state,
            Served(1, gateway_of(first, functions), functions),
            functions_of=edition_functions,
            gateway_of=gateway_of,
            preload=False,
            on_open=opened.append,
            on_unprepared=lambda: unprepared.append(True),
        )
        old = digest_of(await post(switch, "/models/echo/v1/inference"))
        assert opened == ["turnout-local_echo_v1"]

        model = onnx.load(project / "echo.onnx")
        model.doc_string = "another"
        onnx.save(model, project / "another.onnx")
        second = read(
            project, ("      v1: {artifact: echo.onnx}\n      v2", "      v1: {artifact: another.onnx}\n      v2")
        )
        assert await switch.prepare(2, second) == ""
        assert "turnout-local_echo_v1" in opened[1:]
        assert "turnout-local_other_v1" not in opened  # it was never called
        assert digest_of(await post(switch, "/models/echo/v1/inference")) == old
        state.update(lambda now: replace(now, edition=2) if now else ControlState(2, (), {}))
        new = digest_of(await post(switch, "/models/echo/v1/inference"))
        assert new != old
        assert not functions.find("turnout-local_echo_v1", first.fingerprints["turnout-local_echo_v1"].digest).is_wanted  # type: ignore[union-attr]

        model.graph.node[0].op_type = "NoSuchOperator"
        onnx.save(model, project / "broken.onnx")
        third = read(project, ("artifact: another.onnx", "artifact: broken.onnx"))
        assert "NoSuchOperator" in await switch.prepare(3, third)
        fourth = read(project, ("artifact: broken.onnx", "artifact: echo.onnx"))
        assert await switch.prepare(4, fourth) == ""
        switch.discard(4)
        switch.discard(4)
        assert digest_of(await post(switch, "/models/echo/v1/inference")) == new
        assert unprepared == []

        state.update(lambda now: replace(now, edition=5) if now else ControlState(5, (), {}))
        # the current edition, until it is replaced
        assert digest_of(await post(switch, "/models/echo/v1/inference")) == new
        assert unprepared == [True]
        switch.functions.open("turnout-local_other_v1")
        switch.functions.open("no such function")
        switch.functions.close()
        functions.close()

    asyncio.run(scene())


def test_connected_sockets_reach_the_other_end(channels: tuple[Channel, Channel]) -> None:
    one, other = channels
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert one.try_send("connections", files=(accepted.fileno(),))
        message = other.receive()
        assert message is not None
        with socket.socket(fileno=message.files[0]) as taken:
            taken.sendall(b"hello")
            assert client.recv(5) == b"hello"
