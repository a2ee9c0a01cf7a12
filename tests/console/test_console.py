"""The console's requests against a real server, without a browser: state, events, previews, changes, errors."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.builders.graphs import write_identity
from tests.builders.running_server import Answer, RunningServer, running_server
from turnout.canary.rollout.stage_control import StageTarget, make_client

MANIFEST = """\
# The platform of this test.
platform: turnout
models:
  echo: # answers what it is sent
    description: Answers what it is sent.
    versions:
      v1: {artifact: models/echo.onnx}
      v2:
        artifact: models/echo.onnx
        source: {address: 'https://me:secret@host/echo.skops?token=secret', converter: sklearn, revision: abc}
stages:
  dev: {serve: {echo: v1}} # the first one
  prod: {serve: {echo: v1}}
"""


class Browser:
    """The requests of a page: the cookie of its session, and the headers that browsers add."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        address = re.search(rb"Console: (\S+)", server.stderr.read_bytes())
        assert address is not None
        self.address = address[1].decode()
        visit = server.request("GET", "/console" + self.address.partition("/console")[2])
        assert visit.status == 303
        self.cookie = visit.headers["set-cookie"].partition(";")[0]

    def request(self, method: str, path: str, body: Any = None, **changed: str) -> Answer:
        host = f"127.0.0.1:{self.server.port}"
        headers = {"cookie": self.cookie, "sec-fetch-site": "same-origin"}
        if body is not None:
            headers |= {"content-type": "application/json", "origin": f"http://{host}"}
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        return self.server.request(method, f"/console{path}", None if body is None else orjson.dumps(body), headers)

    def pulse(self) -> Mapping[str, Any]:
        """Return the first event of a stream."""
        with closing(self.server.connect()) as connection, connection.makefile("rb") as stream:
            connection.sendall(
                f"GET /console/events HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\nCookie: {self.cookie}\r\n"
                "Sec-Fetch-Site: same-origin\r\n\r\n".encode()
            )
            result: Mapping[str, Any] = next(orjson.loads(line[6:]) for line in stream if line.startswith(b"data: "))
            return result

    def state(self) -> Mapping[str, Any]:
        result: Mapping[str, Any] = self.request("GET", "/state").json()
        return result


@contextmanager
def visited(project: Path) -> Iterator[Browser]:
    (project / "models").mkdir()
    write_identity(project / "models" / "echo.onnx")
    (project / "models.yaml").write_text(MANIFEST)
    with running_server(project, "--workers", "1", "--no-access-log") as server:
        yield Browser(server)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with visited(tmp_path) as browser:
        yield browser


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A console for tests that change nothing."""
    with visited(tmp_path_factory.mktemp("console")) as browser:
        yield browser


def wish(browser: Browser, action: str, stage: str = "dev", **others: Any) -> dict[str, Any]:
    return {"action": action, "stage": stage, "generation": browser.state()["generation"], **others}


def test_state_events_and_a_canary_from_start_to_promotion(browser: Browser) -> None:
    state = browser.state()
    assert [model["name"] for model in state["models"]] == ["echo"]
    dev = state["stages"][0]
    assert dev["cells"]["echo"]["parts"] == [{"version": "v1", "percent": 100.0, "kind": "serve"}]
    assert {action["action"] for action in dev["actions"] if action["allowed"]} == {"start"}

    start = wish(browser, "start", serve={"echo": "v2"}, percent=50)
    shown = browser.request("POST", "/preview", start).json()
    assert shown["sentence"] == "echo v2 gets 50% of requests (baseline v1)."
    assert "+" in shown["diff"]
    assert "percent: 50" in shown["diff"]
    assert {"op": "replace", "path": "/canarySettings/percentTraffic", "value": "50.0"} in shown["operations"][0]
    url = f"http://127.0.0.1:{browser.server.port}"
    command = f"turnout canary start dev --model echo --to v2 --percent 50 --now --url {url}"
    assert shown["command"] == command
    assert (browser.server.project / "models.yaml").read_text() == MANIFEST, "a preview changes nothing"

    done = browser.request("POST", "/act", start)
    assert (done.status, done.json()["sentence"]) == (200, f"Started canary on dev: {shown['sentence']}")
    text = (browser.server.project / "models.yaml").read_text()
    assert "# the first one" in text
    assert "# answers what it is sent" in text
    assert "percent: 50" in text
    versions = [
        browser.server.post("/dev/models/echo/inference", {"instances": [[1.0, 2.0, 3.0, 4.0]]}).headers
        for _ in range(60)
    ]
    assert {version["x-turnout-version"] for version in versions} == {"v1", "v2"}

    pulse = browser.pulse()
    assert sum(entry["requests"] for entry in pulse["traffic"]["rows"]) == 60
    report = pulse["canaries"]["dev"]
    assert report["shares"]["baseline"]["requests"] + report["shares"]["canary"]["requests"] == 60
    assert {check["name"] for check in report["checks"]} == {"errors", "latency"}
    assert report["checks"][0]["evidence"]["count"] == report["shares"]["canary"]["requests"]

    promote = wish(browser, "promote")
    assert browser.request("POST", "/preview", promote).json()["must_type"] is True, "the verdict is not successful"
    assert browser.request("POST", "/act", promote).status == 422
    assert browser.request("POST", "/act", {**promote, "typed": "dev"}).status == 200
    dev = browser.state()["stages"][0]
    assert dev["cells"]["echo"]["parts"][0]["version"] == "v2"
    assert [entry["action"] for entry in dev["history"]] == ["start", "promote"]
    assert all(entry["done"] for entry in dev["history"])
    answer = browser.server.post("/dev/models/echo/inference", {"instances": [[1.0, 2.0, 3.0, 4.0]]})
    assert (answer.headers["x-turnout-version"], answer.headers["x-turnout-canary"]) == ("v2", "false")
    assert {action["action"] for action in dev["actions"] if action["allowed"]} == {"start", "return"}
    assert browser.request("POST", "/act", wish(browser, "return")).status == 200
    assert browser.state()["stages"][0]["cells"]["echo"]["parts"][0]["version"] == "v1"


def test_a_concurrent_change_is_reported_as_a_conflict(browser: Browser) -> None:
    first = wish(browser, "start", serve={"echo": "v2"})
    second = wish(browser, "start", "prod", serve={"echo": "v2"})
    assert browser.request("POST", "/act", first).status == 200
    for path in ("/act", "/preview"):
        stale = browser.request("POST", path, second)
        assert (stale.status, stale.json()["hint"]) == (409, "Refresh the page.")
    assert "prod: {serve: {echo: v1}}" in (browser.server.project / "models.yaml").read_text()


def test_invalid_actions_are_reported_with_their_reason(looking: Browser) -> None:
    good = wish(looking, "start", serve={"echo": "v2"})
    for change, status, words in (
        ({"action": "delete"}, 400, "`action` must be one of"),
        ({"stage": 7}, 400, "`stage` must be a string"),
        ({"generation": ""}, 400, "`generation` must be a string"),
        ({"percent": 101}, 400, "`percent` must be a number from 0 to 100"),
        ({"percent": True}, 400, "`percent` must be"),
        ({"serve": ["echo"]}, 400, "`serve` must map"),
        ({"stage": "test"}, 422, "test"),
        ({"serve": {"echo": "v9"}}, 422, "v9"),
        ({"serve": {}}, 422, ""),
        ({"action": "promote"}, 422, "has no canary"),
    ):
        answer = looking.request("POST", "/act", {**good, **change})
        assert answer.status == status, (change, answer.body)
        assert words in answer.json()["error"], (change, answer.body)
    assert looking.request("POST", "/act", [1]).status == 400
    assert (looking.server.project / "models.yaml").read_text() == MANIFEST


def test_the_source_of_a_version_is_shown_without_secrets(looking: Browser) -> None:
    first, second = looking.state()["models"][0]["versions"]
    source = {"address": "https://host/echo.skops", "converter": "sklearn", "revision": "abc"}
    assert (first["source"], second["source"]) == (None, source)
    for path in ("/dev/models/echo", "/dev/models/echo/v2", "/docs/dev/echo"):
        answer = looking.server.request("GET", path)
        assert answer.status == 200
        assert b"https://host/echo.skops" in answer.body
        assert b"secret" not in answer.body
    assert looking.server.request("GET", "/dev/models/echo/v2").json()["source"] == source
    assert "source" not in looking.server.request("GET", "/dev/models/echo/v1").json()


def test_unchanged_state_is_not_sent_again(looking: Browser) -> None:
    first = looking.request("GET", "/state")
    again = looking.request("GET", "/state", if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")


def test_broken_models_yaml_is_shown(browser: Browser) -> None:
    (browser.server.project / "models.yaml").write_text(MANIFEST.replace("echo: v1}} # the", "echo: v7}} # the"))
    state = browser.state()
    assert len(state["problems"]) == 1
    assert "v7" in state["problems"][0]
    assert browser.pulse()["traffic"] is not None


def test_a_stage_that_differs_from_models_yaml_is_reported(browser: Browser) -> None:
    target = StageTarget("local", f"http://127.0.0.1:{browser.server.port}")
    client = make_client("apigateway", target)
    (api,) = client.get_rest_apis()["items"]
    operation = {"op": "replace", "path": "/variables/echo", "value": "v2"}
    client.update_stage(restApiId=api["id"], stageName="dev", patchOperations=[operation])
    assert browser.pulse()["differences"] == {"dev": ["echo is v1 in the manifest, v2 in the live stage"]}


def test_events_arrive_in_one_open_stream_which_does_not_delay_a_stop(browser: Browser) -> None:
    with closing(browser.server.connect()) as connection, connection.makefile("rb") as stream:
        connection.sendall(
            f"GET /console/events HTTP/1.1\r\nHost: 127.0.0.1:{browser.server.port}\r\nCookie: {browser.cookie}\r\n"
            "Sec-Fetch-Site: same-origin\r\n\r\n".encode()
        )
        head = list(iter(stream.readline, b"\r\n"))
        assert b"Content-Type: text/event-stream\r\n" in head
        assert b"Transfer-Encoding: chunked\r\n" in head
        events = (line for line in stream if line.startswith(b"data: "))
        times = [orjson.loads(next(events)[6:])["time"] for _ in range(3)]
        assert times == sorted(set(times))
        browser.server.signal(signal.SIGHUP)  # a reload keeps the connection
        next(events)
        browser.server.signal()
        assert stream.read().endswith(b"0\r\n\r\n")
    assert browser.server.wait() == 0


def test_samples_and_keys(looking: Browser) -> None:
    response = looking.request("GET", "/sample?model=echo&version=v1").json()
    assert response["version"] == "v1"
    assert response["request"]["inputs"][0]["name"] == "x"
    assert looking.request("GET", "/sample?model=nothing").status == 404
    assert looking.request("GET", "/key?stage=dev").json() == {"key": ""}
    assert looking.request("GET", "/nothing").status == 404


def test_unauthenticated_requests_are_rejected(looking: Browser) -> None:
    for changed in ({"cookie": "turnout_console=guess"}, {"sec_fetch_site": "cross-site"}, {"host": "evil.example"}):
        for path in ("/", "/state", "/events", "/static/app.js", "/key?stage=prod"):
            answer = looking.request("GET", path, **changed)
            assert answer.status == 403, (changed, path)
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    start = wish(looking, "start", serve={"echo": "v2"})
    assert looking.request("POST", "/act", start, content_type="text/plain").status == 403
    assert looking.request("POST", "/act", start, origin="http://evil.example").status == 403
    assert (looking.server.project / "models.yaml").read_text() == MANIFEST


def test_root_redirects_browsers_to_the_console(looking: Browser) -> None:
    page = looking.server.request("GET", "/", headers={"accept": "text/html,application/xhtml+xml"})
    assert (page.status, page.headers["location"]) == (302, "/console/")
    other = looking.server.request("GET", "/", headers={"accept": "*/*"})
    assert (other.status, other.json()) == (403, {"message": "Missing Authentication Token"})
