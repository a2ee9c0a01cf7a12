"""The Python client against a real server: synchronous and asynchronous calls, small and large."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.builders.async_project import GROWS, REFUSED, SLEEPS, write_async_project
from tests.builders.running_server import RunningServer, running_server
from turnout.cli.app import run
from turnout.client import ApiError, AsyncClient, Client, UnreachableError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = write_async_project(tmp_path_factory.mktemp("client"))
    with running_server(project, "--workers", "1", "--no-access-log") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{server.port}", stage="dev") as made:
        yield made


@pytest.mark.parametrize("count", [3, 10_000])
def test_call_returns_arrays(client: Client, count: int) -> None:
    """In JSON and in binary; a list and an array of another dtype are converted to the declared datatype."""
    for values in (list(range(count)), np.arange(count, dtype=np.float64)):
        result = client.infer("echo", {"x": values})
        assert (result.model, result.version, result.share) == ("echo", "v1", "baseline")
        assert result.outputs["y"].dtype == np.float32
        assert np.array_equal(result.outputs["y"], np.arange(count) + 1)


def test_nan_is_sent_in_json(client: Client) -> None:
    values = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert np.array_equal(client.infer("echo", {"x": values}).outputs["y"], values, equal_nan=True)


def test_an_asynchronous_request_is_awaited(client: Client) -> None:
    pending = client.submit("echo", {"x": [SLEEPS, 0.5]}, version="v1")
    assert pending.state == "queued"
    result = pending.result()
    assert (result.version, result.outputs["y"].tolist()) == ("v1", [SLEEPS + 1, 1.5])
    assert client.request(pending.id).state == "done"
    assert client.request(pending.location).result().outputs["y"].tolist() == [SLEEPS + 1, 1.5]


def test_large_arrays_are_sent_by_reference(client: Client) -> None:
    values = np.arange(2_000_000, dtype=np.float32)
    result = client.submit("echo", {"x": values}, identifier="large").result()
    assert np.array_equal(result.outputs["y"], values + 1)
    again = client.submit("echo", {"x": values}, identifier="large")
    assert (again.state, again.description["attempts"]) == ("done", 1)


def test_an_interrupted_download_is_resumed(client: Client, tmp_path: Path) -> None:
    pending = client.submit("echo", {"x": [GROWS, 3_000_000]})
    address = pending.answer_address()
    whole = client.fetch(address).body
    (tmp_path / "answer.part").write_bytes(whole[:1_000_000])
    seen: list[tuple[int, int]] = []
    client.download(address, tmp_path / "answer", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "answer").read_bytes() == whole
    assert not (tmp_path / "answer.part").exists()
    assert seen[0][0] > 1_000_000
    assert seen[-1] == (len(whole), len(whole))
    for other in (b"x" * 1_000_000, b"x" * len(whole), b"x" * (len(whole) + 1)):
        (tmp_path / "answer.part").write_bytes(other)
        client.download(address, tmp_path / "answer", sha256=pending.answer_sha256)
        assert (tmp_path / "answer").read_bytes() == whole, "the part of another answer is not used"


def test_failures_raise_errors_with_the_messages_of_the_api(client: Client, server: RunningServer) -> None:
    for call in (client.infer, lambda *arguments: client.submit(*arguments).result()):
        with pytest.raises(ApiError, match="-1 is refused") as raised:
            call("echo", {"x": [REFUSED, 0]})
        assert (raised.value.status, raised.value.details) == (422, {"value": -1})
    refused = client.infer_body("echo", b"{")
    assert (refused.status, json.loads(refused.body)["code"]) == (400, "INVALID_JSON")
    with pytest.raises(ApiError) as unknown:
        client.infer("nothing", {"x": [1]})
    assert unknown.value.status == 403
    with pytest.raises(TypeError, match="input `x`: expected FP32, got object"):
        client.infer("echo", {"x": ["a"]})
    with Client(f"http://127.0.0.1:{server.port}", stage="plain") as plain, pytest.raises(ApiError, match="no async"):
        plain.submit("echo", {"x": [1]})
    with pytest.raises(UnreachableError):
        Client("http://127.0.0.1:1").infer("echo", {"x": [1]})


def test_an_expired_wait_ends_and_a_request_is_canceled(client: Client) -> None:
    first = client.submit("echo", {"x": [SLEEPS, 3]})
    second = client.submit("echo", {"x": [1]})
    with pytest.raises(TimeoutError):
        second.result(timeout_s=0.2)
    second.cancel()
    with pytest.raises(ApiError, match="the request is canceled"):
        second.result()
    assert first.result().version == "v1"


def test_calls_in_one_event_loop_overlap(server: RunningServer) -> None:
    client = AsyncClient(f"http://127.0.0.1:{server.port}", stage="dev")

    async def call() -> list[float]:
        results = await asyncio.gather(*(client.infer("echo", {"x": [value]}) for value in range(5)))
        pending = await client.submit("echo", {"x": [7]})
        return [float(result.outputs["y"][0]) for result in (*results, await pending.result())]

    assert asyncio.run(call()) == [1, 2, 3, 4, 5, 8]


def test_key_is_sent(server: RunningServer) -> None:
    key = server.api_key("keyed")
    with Client(f"http://127.0.0.1:{server.port}", stage="keyed", api_key=key) as keyed:
        assert keyed.submit("echo", {"x": [1]}).result().outputs["y"].tolist() == [2]


def test_command_waits_for_an_asynchronous_answer(
    server: RunningServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    called = ["invoke", "echo", "--async", "--url", f"http://127.0.0.1:{server.port}", "--stage", "dev"]
    called += ["--manifest", str(server.project)]
    assert run([*called, "--data", '{"inputs": {"x": [1]}}', "--json"]) == 0
    printed = capfd.readouterr()
    assert printed.out == '{"outputs":{"y":[2.0]}}'
    assert re.fullmatch(
        r"Accepted as /dev/requests/[0-9a-f-]+\.\nThe request is done after .* 1 attempt\.\n", printed.err
    )
    data = f'{{"inputs": {{"x": [{GROWS}, 2000000]}}}}'
    assert run([*called, "--data", data, "--output", str(tmp_path / "answer.json")]) == 0
    assert len(json.loads((tmp_path / "answer.json").read_bytes())["outputs"]["y"]) == 2_000_000
    assert f"Wrote {tmp_path / 'answer.json'}, " in capfd.readouterr().err
    assert run([*called, "--data", f'{{"inputs": {{"x": [{REFUSED}, 0]}}}}']) == 1
    assert "turnout: the request failed: -1 is refused (REFUSED_BY_MODEL)\n" in capfd.readouterr().err
    assert run(["invoke", "echo", "--data", "{}", "--output", "x"]) == 2
