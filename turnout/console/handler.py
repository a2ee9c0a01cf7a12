"""Answers the console's requests: the page, its data, its event stream, and its changes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson

from turnout.artifacts.examples import read_examples
from turnout.client.connection import UnreachableError, read_local_key
from turnout.console.actions import WishError, parse_wish, preview, take
from turnout.console.door import HEADERS, Door, refuse
from turnout.console.kept_answers import KeptAnswers
from turnout.console.pages import answer_page
from turnout.console.plan_page import describe_plan
from turnout.console.runs import stop_run
from turnout.console.state import make_pulse, make_state
from turnout.console.streams import Pulse, send_rows
from turnout.console.subject import Subject
from turnout.http_server.messages import Request, Response
from turnout.problems import ProblemsError, TurnoutError
from turnout.protocol.naming import CONSOLE_SEGMENT
from turnout.replay.sample_request import UnknownNameError, make_sample_request

PULSE_S = 1.0
"""Seconds between two events of a stream."""

PULSE_ON_AWS_S = 30.0
"""The same for a stack: each event queries CloudWatch, which charges per query and has one value per minute."""

_JSON = (("Content-Type", "application/json"), ("Cache-Control", "no-cache"), *HEADERS)


class ConsoleHandler:
    """A `Handler` for everything below `/console`.

    Args:
        subject: the project that is shown.
        door: decides about access.
        clock: monotonic seconds.
    """

    def __init__(self, subject: Subject, door: Door, clock: Callable[[], float] = time.monotonic) -> None:
        self._subject = subject
        self._door = door
        every_s = PULSE_S if subject.target.is_local else PULSE_ON_AWS_S
        self._pulse = Pulse(lambda: make_pulse(subject), every_s, clock)
        self._kept = KeptAnswers(subject, door)

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request."""
        path = request.path.removeprefix(f"/{CONSOLE_SEGMENT}")
        if path in {"", "/"}:
            if objection := self._door.find_objection_to_origin(request):
                return refuse(objection)
            if (entered := self._door.let_in(request)) is not None:
                return entered
            objection = self._door.find_objection(request, is_page=True)
            return refuse(objection) if objection else answer_page(request, "index.html")
        if objection := self._door.find_objection(request):
            return refuse(objection)
        if path.startswith("/static/"):
            return answer_page(request, path.removeprefix("/static/"))
        return self._answer_data(request, path)

    async def _answer_data(self, request: Request, path: str) -> Response:
        answers: Mapping[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/state"): self._answer_state,
            ("GET", "/events"): lambda _: self._answer_events(),
            ("GET", "/plan"): self._answer_plan,
            ("GET", "/sample"): self._answer_sample,
            ("GET", "/key"): self._answer_key,
            ("POST", "/preview"): self._answer_preview,
            ("POST", "/act"): self._answer_act,
            ("POST", "/stop-run"): self._answer_stop_run,
            ("POST", "/example"): lambda asked: answer_json(200, self._kept.save(_body_of(asked))),
        }
        answer = answers.get((request.method, path))
        if request.method == "GET" and path in self._kept.reading:
            read = self._kept.reading[path]
            answer = lambda asked: answer_json(200, read(_query_of(asked)))  # noqa: E731
        if (request.method, path) == ("GET", "/compare"):
            answer = lambda asked: self._answer_rows(self._kept.compare(_query_of(asked)))  # noqa: E731
        if answer is None:
            return answer_json(404, {"error": f"Unknown path: {request.method} /{CONSOLE_SEGMENT}{path}."})
        try:
            return await asyncio.to_thread(answer, request)
        except ProblemsError as error:
            problems = [f"{problem.path}: {problem.message}" for problem in error.problems]
            return answer_json(422, {"error": "models.yaml would be invalid with this change.", "problems": problems})
        except WishError as error:
            return answer_json(error.status, {"error": error.message, "hint": error.hint})
        except UnknownNameError as error:
            return answer_json(404, {"error": str(error), "hint": error.hint})
        except UnreachableError as error:
            return answer_json(502, {"error": str(error)})
        except TurnoutError as error:
            return answer_json(422, {"error": error.message, "hint": error.hint})

    def _answer_state(self, request: Request) -> Response:
        data = orjson.dumps(make_state(self._subject, may_write=self._door.may_write))
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        asked = next((value for name, value in request.headers if name.lower() == "if-none-match"), "")
        if etag in asked:
            return Response(304, (("ETag", etag), *_JSON))
        return Response(200, (("ETag", etag), *_JSON), data)

    def _answer_events(self) -> Response:
        """Answer with an open stream of one event a second."""
        headers = (("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"), *HEADERS)
        return Response(200, headers, chunks=self._pulse.follow())

    def _answer_rows(self, rows: Generator[dict[str, Any]]) -> Response:
        headers = (("Content-Type", "application/x-ndjson"), ("Cache-Control", "no-cache"), *HEADERS)
        return Response(200, headers, chunks=send_rows(rows))

    def _answer_sample(self, request: Request) -> Response:
        """Return requests to start with: a version's examples, or one made from its signature."""
        query = _query_of(request)
        project = self._subject.project()
        model, version = query.get("model", ""), query.get("version", "")
        sample = make_sample_request(project, model, version, "")
        examples: list[Mapping[str, Any]] = []
        named = project.manifest.model(model)
        for declared in named.versions:
            if declared.name == sample.version and declared.examples:
                read = read_examples(project.manifest.path.parent / declared.examples)
                examples = [{"name": example.name, "request": example.request} for example in read]
        return answer_json(200, {"version": sample.version, "request": sample.request, "examples": examples})

    def _answer_plan(self, _request: Request) -> Response:
        return answer_json(200, describe_plan(self._subject))

    def _answer_key(self, request: Request) -> Response:
        """Return the local API key of a stage, for requests that the page sends; none to readers on other machines."""
        stage = _query_of(request).get("stage", "")
        key = ""
        if self._subject.target.is_local and self._door.shows_secrets:
            key = read_local_key(self._subject.target.endpoint_url, self._subject.folder, stage)
        return answer_json(200, {"key": key})

    def _answer_preview(self, request: Request) -> Response:
        return answer_json(200, preview(self._subject, parse_wish(_body_of(request))))

    def _answer_act(self, request: Request) -> Response:
        sentence = take(self._subject, parse_wish(_body_of(request)))
        return answer_json(200, {"sentence": sentence, "generation": self._subject.generation()})

    def _answer_stop_run(self, request: Request) -> Response:
        body = _body_of(request)
        if not isinstance(body, dict) or not isinstance(body.get("stage"), str):
            raise WishError(400, "`stage` must be a string.")
        return answer_json(200, {"sentence": stop_run(self._subject, body["stage"])})


def answer_json(status: int, body: Any) -> Response:
    """Return a response with a JSON body."""
    return Response(status, _JSON, orjson.dumps(body))


def _query_of(request: Request) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(request.query).items()}


def _body_of(request: Request) -> Any:
    try:
        return orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise WishError(400, f"The body is not JSON: {error}.") from error
