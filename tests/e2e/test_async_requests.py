"""Asynchronous requests against a real server with two workers, as callers see them."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.builders.async_project import (
    ENDS,
    GROWS,
    PATH,
    RAISES,
    REFUSED,
    SLEEPS,
    await_end,
    body_of,
    fetch,
    submit,
    webhook_receiver,
    write_async_project,
)
from tests.builders.processes import children
from tests.builders.running_server import Answer, RunningServer, running_server
from tests.builders.waiting import PATIENCE_S, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = write_async_project(tmp_path_factory.mktemp("async"))
    with running_server(project, "--workers", "2", "--no-access-log") as running:
        yield running


def test_request_is_accepted_run_and_answered_in_its_form(server: RunningServer) -> None:
    accepted = server.post(PATH, body_of(1, 2, 3), prefer="respond-async")
    assert (accepted.status, accepted.headers["preference-applied"]) == (202, "respond-async")
    assert int(accepted.headers["retry-after"]) >= 1
    assert accepted.json()["state"] == "queued"
    assert (accepted.json()["model"], accepted.json()["version"], accepted.json()["share"]) == (
        "echo",
        "v1",
        "baseline",
    )
    address = accepted.headers["location"]
    assert address == f"/dev/requests/{accepted.json()['id']}"
    described = await_end(server, address)
    assert (described["state"], described["attempts"], described["answer"]["status"]) == ("done", 1, 200)
    assert described["accepted"] <= described["begun"] <= described["ended"]
    answer = fetch(server, described["answer"]["address"])
    assert answer.json()["outputs"] == [{"name": "y", "shape": [3], "datatype": "FP32", "data": [2, 3, 4]}]
    assert hashlib.sha256(answer.body).hexdigest() == described["answer"]["sha256"]
    assert (answer.headers["x-turnout-model"], answer.headers["x-turnout-version"]) == ("echo", "v1")
    short = server.post(PATH, {"inputs": {"x": [5]}}, prefer="respond-async;wait=5, handling=lenient")
    assert fetch(server, await_end(server, short.headers["location"])["answer"]["address"]).json() == {
        "outputs": {"y": [6]}
    }


def test_default_stage_accepts_paths_without_its_name(server: RunningServer) -> None:
    address = submit(server, 1, path="/models/echo/v1/inference")
    assert address.startswith("/requests/")
    assert await_end(server, address)["answer"]["address"] == f"{address}/answer"
    assert await_end(server, f"/dev{address}")["path"] == "/models/echo/v1/inference"


def test_open_inference_protocol_can_be_asynchronous(server: RunningServer) -> None:
    described = await_end(server, submit(server, 1, path="/dev/v2/models/echo/infer"))
    assert (described["state"], described["model"], described["version"]) == ("done", "echo", "v1")


def test_stage_without_async_answers_synchronously(server: RunningServer) -> None:
    assert server.post("/plain/models/echo/inference", body_of(1), prefer="respond-async").status == 200
    assert server.post(PATH, body_of(1)).status == 200
    for method, path in (
        ("GET", "/plain/requests/a"),
        ("PUT", "/plain/requests/a?model=echo"),
        ("POST", "/plain/uploads"),
    ):
        refused = server.request(method, path, b"{}")
        assert (refused.status, refused.json()["code"]) == (404, "ASYNC_NOT_ENABLED")


def test_request_of_another_stage_or_caller_is_unknown(server: RunningServer) -> None:
    key = server.api_key("keyed")
    address = submit(server, 1, path="/keyed/models/echo/inference", x_api_key=key)
    assert server.request("GET", address).status == 403
    assert await_end(server, address, x_api_key=key)["state"] == "done"
    other = server.request("GET", address.replace("/keyed", "/dev"))
    assert (other.status, other.json()["code"]) == (404, "UNKNOWN_REQUEST")
    assert server.post("/keyed/models/echo/inference", body_of(1), prefer="respond-async").status == 403


def test_a_request_identifier_from_the_caller_runs_once(server: RunningServer) -> None:
    body, path = orjson.dumps(body_of(1, 2, 3)), "/dev/requests/order-7?model=echo"
    headers = {"content-type": "application/json"}
    first = server.request("PUT", path, body, headers)
    assert (first.status, first.json()["id"], first.headers["location"]) == (202, "order-7", "/dev/requests/order-7")
    described = await_end(server, "/dev/requests/order-7")
    again = server.request("PUT", path, body, headers)
    assert (again.status, again.json()) == (200, described)
    other = server.request("PUT", path, orjson.dumps(body_of(9, 9, 9)), headers)
    assert (other.status, other.json()["code"]) == (409, "IDENTIFIER_TAKEN")
    version = server.request("PUT", f"{path}&version=v2", body, headers)
    assert (version.status, version.json()["code"]) == (409, "IDENTIFIER_TAKEN")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/dev/requests/a", 400, "INVALID_TARGET"),
        ("/dev/requests/a?model=nothing", 400, "INVALID_TARGET"),
        ("/dev/requests/a?model=echo&version=v9", 400, "INVALID_TARGET"),
        ("/dev/requests/a?model=echo%2Fv1", 400, "INVALID_TARGET"),
        ("/dev/requests/a?model=echo&version=v1%2Finference", 400, "INVALID_TARGET"),
        ("/dev/requests/%2E%2E?model=echo", 400, "INVALID_IDENTIFIER"),
        ("/dev/requests/a%2Fb?model=echo", 400, "INVALID_IDENTIFIER"),
        ("/dev/requests/a%00?model=echo", 400, "INVALID_IDENTIFIER"),
        (f"/dev/requests/{'a' * 129}?model=echo", 400, "INVALID_IDENTIFIER"),
    ],
)
def test_invalid_identifiers_are_rejected(server: RunningServer, path: str, status: int, code: str) -> None:
    refused = server.request("PUT", path, orjson.dumps(body_of(1)), {"content-type": "application/json"})
    assert (refused.status, refused.json()["code"]) == (status, code)
    assert set(refused.json()) == {"error", "code", "details"}


def test_only_requests_that_have_not_started_can_be_canceled(server: RunningServer) -> None:
    running = submit(server, SLEEPS, 4)
    wait_until(lambda: server.request("GET", running).json()["state"] == "running", "the run to begin")
    waiting = submit(server, 1, 2, 3)
    early = server.request("GET", f"{running}/answer")
    assert (early.status, early.json()["code"], early.headers["retry-after"]) == (409, "NOT_DONE", "1")
    canceled = server.request("DELETE", waiting)
    assert (canceled.status, canceled.json()["state"]) == (200, "canceled")
    assert server.request("DELETE", waiting).json()["state"] == "canceled"
    late = server.request("DELETE", running)
    assert (late.status, late.json()["code"]) == (409, "HAS_BEGUN")
    assert server.post(PATH, body_of(1)).status == 200, "a synchronous call does not wait"
    assert await_end(server, running)["state"] == "done"
    assert server.request("GET", waiting).json()["attempts"] == 0
    never = server.request("GET", f"{waiting}/answer")
    assert (never.status, never.json()["code"]) == (409, "NOT_DONE")
    assert "retry-after" not in never.headers, "it will never be"
    assert server.request("DELETE", "/dev/requests/nobody").json()["code"] == "UNKNOWN_REQUEST"


def test_failures_are_retried_only_if_that_may_help(server: RunningServer) -> None:
    refused = await_end(server, submit(server, REFUSED, 0))
    assert (refused["state"], refused["attempts"]) == ("failed", 1)
    assert refused["error"] == {
        "error": "-1 is refused",
        "code": "REFUSED_BY_MODEL",
        "details": {"value": -1},
        "status": 422,
    }
    raised = await_end(server, submit(server, RAISES, 0))
    assert (raised["state"], raised["attempts"], raised["error"]["status"]) == ("failed", 2, 500)
    answer = server.request("GET", f"/dev/requests/{raised['id']}/answer")
    assert (answer.status, answer.json()["code"]) == (500, raised["error"]["code"])
    unread = server.post(PATH, b"{", prefer="respond-async")
    assert await_end(server, unread.headers["location"])["error"]["code"] == "INVALID_JSON"


def test_run_without_async_ends_at_the_timeout_of_the_version(server: RunningServer) -> None:
    late = await_end(server, submit(server, SLEEPS, 60, path="/dev/models/echo/v2/inference"))
    assert (late["state"], late["attempts"], late["error"]["code"], late["error"]["status"]) == (
        "failed",
        2,
        "TIMED_OUT",
        504,
    )


def test_router_chooses_a_version_once(server: RunningServer) -> None:
    path = "/weighted/models/echo/inference"
    described = [await_end(server, submit(server, value, path=path)) for value in range(12)]
    assert {entry["state"] for entry in described} == {"done"}
    assert {entry["version"] for entry in described} == {"v1", "v2"}


def test_full_stage_rejects_requests(server: RunningServer) -> None:
    path = "/weighted/models/echo/inference"
    values = [0.123456] * 30_000
    body = orjson.dumps(body_of(*values))
    statuses = [server.post(path, body, prefer="respond-async") for _ in range(6)]
    refused = [answer for answer in statuses if answer.status != 202]
    assert {(answer.status, answer.json()["code"]) for answer in refused} == {(507, "STORAGE_FULL")}
    assert all("retry-after" in answer.headers for answer in refused)
    upload = server.post("/weighted/uploads", {"bytes": 2_000_000})
    assert (upload.status, upload.json()["code"]) == (507, "STORAGE_FULL")


def put(server: RunningServer, address: str, body: bytes, **headers: str) -> tuple[int, dict[str, object]]:
    path = "/" + address.split("/", 3)[3]
    answer = server.request("PUT", path, body, {name.replace("_", "-"): text for name, text in headers.items()})
    return answer.status, answer.json()


def test_large_bodies_and_answers_use_signed_addresses(server: RunningServer) -> None:
    values = np.arange(4_000_000, dtype=np.float32)
    wish = {"name": "x", "shape": [values.size], "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    text = orjson.dumps({"inputs": [wish], "parameters": {"binary_data_output": True}})
    body = text + values.tobytes()
    digest = hashlib.sha256(body).hexdigest()
    made = server.post("/dev/uploads", {"bytes": len(body), "sha256": digest})
    assert made.status == 201, made.body
    upload = made.json()
    (part,) = upload["parts"]
    headers = {
        "prefer": "respond-async",
        "x-turnout-upload": upload["id"],
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(text)),
    }
    early = server.request("POST", PATH, b"", headers)
    assert (early.status, early.json()["code"]) == (409, "UPLOAD_INCOMPLETE")
    assert put(server, part["address"], body[:-1])[1]["code"] == "INVALID_UPLOAD"
    assert put(server, part["address"] + "0", body)[1]["code"] == "EXPIRED_ADDRESS"
    assert put(server, part["address"], body, x_turnout_sha256="0" * 64)[1]["code"] == "DIGEST_MISMATCH"
    assert put(server, part["address"], body) == (200, {"part": 0, "sha256": digest})
    path = "/dev/requests/large?model=echo"
    accepted = server.request("PUT", path, b"", headers)
    assert accepted.status == 202, accepted.body
    described = await_end(server, accepted.headers["location"])
    assert described["state"] == "done", described
    assert server.request("PUT", path, b"", headers).status == 200, "the same request, whose upload is its body now"
    redirect = server.request("GET", "/dev/requests/large/answer")
    assert redirect.status == 303
    answer = fetch(server, redirect.headers["location"])
    assert hashlib.sha256(answer.body).hexdigest() == described["answer"]["sha256"]
    length = int(answer.headers["inference-header-content-length"])
    assert np.array_equal(np.frombuffer(answer.body[length:], np.float32), values + 1)
    address = described["answer"]["address"]
    rest = fetch(server, address, range=f"bytes={len(answer.body) - 10}-")
    assert (rest.status, rest.body) == (206, answer.body[-10:])
    assert rest.headers["content-range"] == f"bytes {len(answer.body) - 10}-{len(answer.body) - 1}/{len(answer.body)}"
    assert fetch(server, address, range=f"bytes={len(answer.body)}-").status == 416
    assert fetch(server, address.replace("signature=", "signature=0")).json()["code"] == "EXPIRED_ADDRESS"
    assert server.request("HEAD", "/" + address.split("/", 3)[3]).headers["content-length"] == str(len(answer.body))


def test_upload_with_another_digest_is_rejected(server: RunningServer) -> None:
    upload = server.post("/dev/uploads", {"bytes": 3, "sha256": "ab" * 32}).json()
    assert put(server, upload["parts"][0]["address"], b"abc")[0] == 200
    headers = {"prefer": "respond-async", "x-turnout-upload": upload["id"]}
    refused = server.request("POST", PATH, b"", headers)
    assert (refused.status, refused.json()["code"]) == (422, "DIGEST_MISMATCH")
    both = server.request("POST", PATH, b"{}", headers)
    assert (both.status, both.json()["code"]) == (400, "INVALID_UPLOAD")


@pytest.mark.parametrize("size", [11, 200_000])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_part_that_is_larger_than_announced_is_rejected(server: RunningServer, size: int, is_chunked: bool) -> None:
    address = server.post("/dev/uploads", {"bytes": 10}).json()["parts"][0]["address"]
    path = "/" + address.split("/", 3)[3]
    half = b"x" * (size // 2)
    pieces = [half, b"x" * (size - len(half))]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        if is_chunked:
            connection.request("PUT", path, iter(pieces), {"transfer-encoding": "chunked"}, encode_chunked=True)
        else:
            connection.request("PUT", path, b"".join(pieces))
        answer = connection.getresponse()
        refusal = {
            "error": "the part: expected 10 bytes, got more",
            "code": "BODY_TOO_LARGE",
            "details": {"expected": 10},
        }
        assert (answer.status, orjson.loads(answer.read())) == (413, refusal)


@pytest.mark.parametrize("content_range", ["bytes 0-9/10", "bytes 5-14/20", "nonsense"])
def test_piece_of_a_part_is_rejected(server: RunningServer, content_range: str) -> None:
    upload = server.post("/dev/uploads", {"bytes": 10}).json()
    status, refused = put(server, upload["parts"][0]["address"], b"x" * 10, content_range=content_range)
    assert (status, refused["code"]) == (400, "INVALID_UPLOAD")
    headers = {"prefer": "respond-async", "x-turnout-upload": upload["id"]}
    assert server.request("POST", PATH, b"", headers).json()["code"] == "UPLOAD_INCOMPLETE"


def test_an_upload_can_be_the_body_of_only_one_request_even_concurrently(server: RunningServer) -> None:
    body = orjson.dumps(body_of(*([0.5] * 50_000)))
    upload = server.post("/dev/uploads", {"bytes": len(body)}).json()
    assert put(server, upload["parts"][0]["address"], body)[0] == 200
    headers = {"content-type": "application/json", "x-turnout-upload": upload["id"]}
    path = "/dev/requests/at-once?model=echo"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.request("PUT", path, b"", headers), range(8)))
    assert sorted(answer.status for answer in answers) == [200] * 7 + [202], [answer.body for answer in answers]
    assert await_end(server, "/dev/requests/at-once")["attempts"] == 1
    other = server.request("PUT", "/dev/requests/other?model=echo", b"", headers)
    assert (other.status, other.json()["code"]) == (404, "UNKNOWN_UPLOAD")


def test_expired_upload_is_unknown(server: RunningServer) -> None:
    upload = server.post("/dev/uploads", {"bytes": 3}).json()
    assert put(server, upload["parts"][0]["address"], b"abc")[0] == 200
    path = server.project / ".turnout/requests/queue.sqlite3"
    with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE_S)) as database:
        assert database.execute("UPDATE uploads SET expires = 1 WHERE id = ?", (upload["id"],)).rowcount == 1
        database.commit()
    headers = {"prefer": "respond-async", "x-turnout-upload": upload["id"]}
    refused = server.request("POST", PATH, b"", headers)
    assert (refused.status, refused.json()["code"]) == (404, "UNKNOWN_UPLOAD")


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (b"", "INVALID_UPLOAD"),
        (b"[]", "INVALID_UPLOAD"),
        (b'{"bytes": 0}', "INVALID_UPLOAD"),
        (b'{"bytes": "7"}', "INVALID_UPLOAD"),
        (b'{"bytes": 7, "sha256": "x"}', "INVALID_UPLOAD"),
        (b'{"bytes": 7, "size": 7}', "INVALID_UPLOAD"),
        (b'{"bytes": 400000000}', "BODY_TOO_LARGE"),
    ],
)
def test_invalid_uploads_are_rejected(server: RunningServer, wish: bytes, code: str) -> None:
    assert server.request("POST", "/dev/uploads", wish).json()["code"] == code


def test_asynchronous_runs_are_counted_separately(server: RunningServer) -> None:
    def counts() -> tuple[int, int]:
        metrics = server.request("GET", "/turnout/metrics?stage=dev").json()
        rows = [sum(sum(entry["statuses"]) for entry in metrics[kind]) for kind in ("functions", "asynchronous")]
        return rows[0], rows[1]

    before = counts()
    await_end(server, submit(server, 1, 2, 3))
    wait_until(lambda: counts() == (before[0], before[1] + 1), lambda: f"one more run than {before}: {counts()}")
    assert b"turnout_async_runs_total{" in server.request("GET", "/metrics").body


def test_small_request_with_a_large_answer(server: RunningServer) -> None:
    described = await_end(server, submit(server, GROWS, 3_000_000))
    assert described["state"] == "done", described
    answer = fetch(server, described["answer"]["address"])
    assert len(answer.body) == described["answer"]["bytes"] > 6_000_000
    for unread in ({"range": "items=0-1"}, {"range": "bytes=5-2"}, {"range": "bytes=0-0,2-3"}, {"range": "bytes=a-b"}):
        assert_whole(fetch(server, described["answer"]["address"], **unread), answer)
    assert_whole(fetch(server, described["answer"]["address"], range="bytes=10-", if_range='"of another"'), answer)
    rest = fetch(server, described["answer"]["address"], range="bytes=10-", if_range=answer.headers["etag"])
    assert (rest.status, rest.body) == (206, answer.body[10:])


def assert_whole(answer: Answer, expected: Answer) -> None:
    """Check that the whole answer arrived with status 200: a client that resumes would append what arrives with 206."""
    assert (answer.status, answer.body == expected.body, "content-range" in answer.headers) == (200, True, False)


def test_no_accepted_request_is_lost(tmp_path: Path) -> None:
    """Workers, then all processes, are killed while requests wait and run."""
    project = write_async_project(tmp_path)
    with running_server(project, "--workers", "2", "--no-access-log") as running:
        addresses = [submit(running, SLEEPS, 1), *(submit(running, value, 0) for value in range(20))]
        poisoned = submit(running, ENDS, 0)
        wait_until(lambda: running.request("GET", addresses[0]).json()["state"] != "queued", "the first run to begin")
        for child in children(running.process.pid):
            if b"serve" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
        running.process.kill()
        running.process.wait()
    with running_server(project, "--workers", "2", "--no-access-log") as running:
        states = [await_end(running, address) for address in addresses]
        assert {state["state"] for state in states} == {"done"}
        assert {state["attempts"] for state in states[1:]} == {1}
        ended = await_end(running, poisoned)
        assert (ended["state"], ended["attempts"]) == ("failed", 2)
        for value, state in enumerate(states[1:]):
            answer = fetch(running, state["answer"]["address"]).json()
            assert answer["outputs"][0]["data"] == [value + 1, 1]


def test_result_is_sent_to_the_callback(tmp_path: Path) -> None:
    with webhook_receiver() as (port, received):
        project = write_async_project(tmp_path, port)
        with running_server(project, "--workers", "1", "--no-access-log") as running:
            address = submit(running, 1, 2, 3, x_turnout_callback=f"http://127.0.0.1:{port}/done")
            wait_until(lambda: received, "the webhook")
            assert received[0]["answer"]["address"] == f"{address}/answer"
            wait_until(lambda: running.request("GET", address).json()["callback"] == "delivered", "its state")
            refused = running.post(PATH, body_of(1), prefer="respond-async", x_turnout_callback="https://evil.example/")
            assert (refused.status, refused.json()["code"]) == (400, "INVALID_CALLBACK")
        assert len(received) == 1


def test_transfers_use_little_memory(server: RunningServer) -> None:
    """80 MB up and down, in two parts, 20 million elements: only the process that runs the request holds them in
    memory.
    """
    values = np.zeros(20_000_000, np.float32)
    wish = {"name": "x", "shape": [values.size], "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    text = orjson.dumps({"inputs": [wish], "parameters": {"binary_data_output": True}})
    body = text + values.tobytes()
    before = peaks_mb(server)
    upload = server.post("/dev/uploads", {"bytes": len(body)}).json()
    assert len(upload["parts"]) == 2
    for part in upload["parts"]:
        piece = body[part["first_byte"] : part["first_byte"] + part["bytes"]]
        assert put(server, part["address"], piece)[0] == 200
    assert max(grown_mb(before, peaks_mb(server))) < 24
    headers = {
        "prefer": "respond-async",
        "x-turnout-upload": upload["id"],
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(text)),
    }
    described = await_end(server, server.request("POST", PATH, b"", headers).headers["location"])
    assert described["state"] == "done", described
    answer = fetch(server, described["answer"]["address"])
    assert hashlib.sha256(answer.body).hexdigest() == described["answer"]["sha256"]
    *others, largest = sorted(grown_mb(before, peaks_mb(server)))
    assert max(others) < 24, "the other worker"
    assert largest < 80 + 80 + 40, "the one that ran it: the body, the answer, and little more"


def peaks_mb(server: RunningServer) -> dict[int, int]:
    """Return the peak memory of each worker."""
    pattern = re.compile(r"VmHWM:\s+(\d+) kB")
    texts = {child: Path(f"/proc/{child}/status").read_text() for child in children(server.process.pid)}
    return {child: int(match[1]) // 1024 for child, text in texts.items() if (match := pattern.search(text))}


def grown_mb(before: dict[int, int], after: dict[int, int]) -> list[int]:
    """Return how much each process has grown."""
    return [after[child] - size for child, size in before.items() if child in after]
