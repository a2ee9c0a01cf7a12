"""Requests generated from the served OpenAPI document: no server error, no undocumented status or body.

hypothesis generates and shrinks them, with each round's seed derived from the run's seed.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from soak.http_client import Answer, Client, HangError, LostError, render
from soak.project import write_project
from soak.result import Findings, Result, Settings
from soak.server import serving

METHODS = ("get", "head", "post", "put", "delete", "options", "patch")
ANY_METHOD = "x-amazon-apigateway-any-method"
FIRST_EXAMPLES = 5
EXAMPLES = 25
"""Requests for one operation in one round, after the first."""

MODELS = ("echo", "text", "count", "changed", "weighed", "chained", "v1", "v2", "nowhere")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path of the document."""

    method: str
    path: str
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The operation's name in findings."""
        return f"{self.method.upper()} {self.path}"


def run(settings: Settings) -> Result:
    """Generate requests for every operation, round after round, for the run's time."""
    project = write_project(settings.folder / "project")
    with serving(settings.command, project, "--workers", "2", "--preload") as server, asyncio.Runner() as runner:
        started = time.monotonic()
        client = Client(server.port)
        (answer,) = runner.run(client.ask(render("GET", "/openapi.json")))
        attack = DocumentAttack(orjson.loads(answer.body), client, runner)
        attack.attack(started + settings.seconds, settings.seed)
        seconds = time.monotonic() - started
        for line in server.alarms():
            attack.findings.add("the server printed an alarm", line[:300])
        client.close()
    statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(attack.statuses.items()))
    seen = f"{len(attack.operations)} operations; {statuses}"
    return Result("document", attack.requests, seconds, seen, attack.findings.lines())


class DocumentAttack:
    """Generates, sends and checks requests.

    Args:
        document: the served document.
        client: sends the requests.
        runner: runs the client's event loop.
    """

    def __init__(self, document: Mapping[str, Any], client: Client, runner: asyncio.Runner) -> None:
        self._document = document
        self._client = client
        self._runner = runner
        self.findings = Findings()
        self.statuses: Counter[int] = Counter()
        self.requests = 0
        self.operations = [
            Operation(name, path, operation)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            for name in (METHODS if method == ANY_METHOD else (method,))
            if method in {*METHODS, ANY_METHOD}
        ]

    def attack(self, deadline: float, seed: int) -> None:
        """Test every operation at least once, then continue until the deadline."""
        number = 0
        while number == 0 or time.monotonic() < deadline:
            examples = EXAMPLES if number else FIRST_EXAMPLES
            for operation in self.operations:
                if number >= len(self.operations) and time.monotonic() >= deadline:
                    break
                self._draw(operation, seed * 1_000_003 + number, examples)
                number += 1

    def _draw(self, operation: Operation, number: int, examples: int) -> None:
        import hypothesis

        requests = self._requests(operation)
        settings = hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
            verbosity=hypothesis.Verbosity.quiet,
        )

        @hypothesis.seed(number)
        @settings
        @hypothesis.given(requests)
        def check(request: bytes) -> None:
            wrong = self._ask(operation, request)
            assert not wrong, wrong

        try:
            check()
        except AssertionError as error:
            self.findings.add(operation.name, str(error))

    def _ask(self, operation: Operation, request: bytes) -> str:
        """Send one request; return what is wrong with its answer."""
        self.requests += 1
        try:
            (answer,) = self._runner.run(self._client.ask(request, heads=[operation.method == "head"]))
        except (LostError, HangError, ValueError) as error:
            return f"{error}: {request[:400]!r}"
        self.statuses[answer.status] += 1
        wrong = self._check(operation, request, answer)
        return f"{wrong}; the request: {request[:600]!r}" if wrong else ""

    def _check(self, operation: Operation, request: bytes, answer: Answer) -> str:
        import jsonschema

        if answer.status >= 500:
            return f"status {answer.status}: {answer.body[:200]!r}"
        if answer.status == 400 and self._is_example(operation, request):
            return f"the document's own example is refused: {answer.body[:200]!r}"
        described = operation.content["responses"].get(str(answer.status))
        if described is None:
            return f"status {answer.status} is not documented: {answer.body[:200]!r}"
        schema = described.get("content", {}).get("application/json", {}).get("schema")
        if schema is None or operation.method == "head" or answer.fields.get("content-type") != "application/json":
            return ""
        root = {**schema, "components": self._document["components"]}
        errors = jsonschema.Draft202012Validator(root).iter_errors(orjson.loads(answer.body))
        first = next(errors, None)
        return f"the body of a {answer.status} is not as documented: {first.message[:300]}" if first else ""

    @staticmethod
    def _is_example(operation: Operation, request: bytes) -> bool:
        described = operation.content.get("requestBody", {}).get("content", {}).get("application/json", {})
        is_json = b"Content-Type: application/json\r\n" in request
        return "example" in described and is_json and request.endswith(b"\r\n\r\n" + orjson.dumps(described["example"]))

    def _requests(self, operation: Operation) -> Any:
        """Yield requests of one operation.

        They are its example, bodies that match its schema or nearly do, other JSON, other bytes.
        """
        from hypothesis import strategies as st

        from soak.schema_values import ANY_JSON, SchemaValues

        described = operation.content.get("requestBody", {}).get("content", {}).get("application/json", {})
        schemas = self._document["components"]["schemas"]
        fitting, odd = (
            SchemaValues(schemas, is_strict=is_strict).values(described.get("schema", {}))
            for is_strict in (True, False)
        )
        example = orjson.dumps(described.get("example"))
        bodies = {
            "example": st.just(example),
            "fitting": fitting.map(_dump),
            "odd": odd.map(_dump),
            "any": ANY_JSON.map(_dump),
            "bytes": st.binary(max_size=100),
            "none": st.none(),
        }
        kinds = st.sampled_from(["example", "example", "fitting", "fitting", "odd", "odd", "any", "bytes", "none"])
        types = st.sampled_from(["application/json"] * 5 + ["application/octet-stream", "text/plain"])
        texts = st.sampled_from(MODELS) | st.text(min_size=1, max_size=12)
        names = [
            parameter["name"] for parameter in operation.content.get("parameters", ()) if parameter["in"] == "path"
        ]

        @st.composite
        def requests(draw: Any) -> bytes:
            path = operation.path
            for name in names:
                path = re.sub(rf"{{{re.escape(name)}\+?}}", quote(draw(texts), safe=""), path)
            if operation.method not in {"post", "put", "patch", "delete"}:
                return render(operation.method.upper(), path)
            headers = (("Content-Type", draw(types)),)
            return render(operation.method.upper(), path, headers, draw(bodies[draw(kinds)]))

        return requests()


def _dump(value: Any) -> bytes:
    """Return JSON as Python writes it, including integers beyond 64 bits, `NaN` and lone surrogates."""
    return json.dumps(value).encode()
