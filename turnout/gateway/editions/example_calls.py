"""Calls functions one after another from a program without an event loop: for `turnout test`."""

from __future__ import annotations

import asyncio
import base64
import inspect
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, Protocol

from turnout.gateway.editions.in_process import make_functions
from turnout.gateway.editions.isolated import Isolation, open_isolated
from turnout.gateway.functions.invocation import Functions, Invocation
from turnout.manifest.parser import Version
from turnout.packaging.build_progress import BuildProgress
from turnout.plan.values import Plan
from turnout.project.project import Project
from turnout.protocol.naming import function_name, function_prefix

JSON_HEADERS: Mapping[str, str] = {"content-type": "application/json"}


class CallVersion(Protocol):
    """Calls a version's function with a body."""

    def __call__(self, version: Version, body: bytes, headers: Mapping[str, str] = JSON_HEADERS) -> Invocation:
        """Return the function's answer; header names are in lower case."""
        ...


ISOLATION = Isolation(max_environments=1, idle_s=1.0)
"""One process at a time is enough, and the next version needs its memory."""


@contextmanager
def calling_in_process(project: Project, plan: Plan) -> Iterator[CallVersion]:
    """Call functions in this process; each is open only while its own examples run."""
    with asyncio.Runner() as runner:
        opened: dict[tuple[str, str], Functions] = {}

        def call(version: Version, body: bytes, headers: Mapping[str, str] = JSON_HEADERS) -> Invocation:
            key = (version.model, version.name)
            if key not in opened:
                close_all()
                here = {key: project.artifacts[key]} if key in project.artifacts else {}
                functions = opened[key] = make_functions(replace(project, artifacts=here), plan)
                # as on Lambda, a call's timeout does not include opening the model
                runner.run(functions.prepare(everything=True))
            return _call(runner, opened[key], plan, version, _make_event(version, body, headers))

        def close_all() -> None:
            while opened:
                opened.popitem()[1].close()

        try:
            yield call
        finally:
            close_all()


@contextmanager
def calling_isolated(project: Project, plan: Plan, progress: BuildProgress) -> Iterator[CallVersion]:
    """Call functions in separate processes, from the zips that AWS gets.

    Raises:
        LayerError: the layer or the runtime cannot be resolved.
    """
    with asyncio.Runner() as runner, closing(open_isolated(project, plan, ISOLATION, progress=progress)) as functions:

        def call(version: Version, body: bytes, headers: Mapping[str, str] = JSON_HEADERS) -> Invocation:
            return _call(runner, functions, plan, version, _make_event(version, body, headers))

        yield call


def _call(
    runner: asyncio.Runner, functions: Functions, plan: Plan, version: Version, event: dict[str, Any]
) -> Invocation:
    name = function_name(function_prefix(plan.platform, plan.stack), version.model, version.name)
    return runner.run(_invoke(functions, name, event, float(version.timeout_s)))


async def _invoke(functions: Functions, name: str, event: dict[str, Any], timeout_s: float) -> Invocation:
    invocation = functions.invoke(name, "live", event, timeout_s)
    if not inspect.isawaitable(invocation):
        return invocation
    try:
        async with asyncio.timeout(timeout_s):
            return await invocation
    except TimeoutError:
        return Invocation(None, "timed_out", f"no response within its timeout of {timeout_s:g} s")


def _make_event(version: Version, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """API Gateway's event of a call by the version's own path, as far as functions read it."""
    path = f"/models/{version.model}/{version.name}/inference"
    return {
        "resource": path,
        "path": path,
        "httpMethod": "POST",
        "headers": dict(headers),
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {"stage": "", "resourcePath": path, "httpMethod": "POST"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
