"""`turnout serve`: a project's plan, document, functions and gateway put together, and served until a signal comes.

Comes in: a `Project`. Goes out: `build_gateway` a gateway without sockets, `serve` nothing. Called by the command line
and by tests.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson

from turnout.example_request import make_request
from turnout.examples import read_examples
from turnout.gateway.access_log import Log as AccessLog
from turnout.gateway.access_log import escape, json_log, text_log
from turnout.gateway.api_keys import load_api_keys
from turnout.gateway.authorize import ApiKey
from turnout.gateway.banner import Sample, render_banner
from turnout.gateway.core import Gateway, RestApi
from turnout.gateway.events import Endpoint
from turnout.gateway.functions import Functions
from turnout.gateway.http_wire import make_refusal
from turnout.gateway.in_process import InProcessFunctions, Loaded
from turnout.gateway.isolated.functions import IsolatedFunctions
from turnout.gateway.isolated.start import Isolation, Progress, ignore_progress, open_isolated
from turnout.gateway.line_writer import LineWriter
from turnout.gateway.listening import bind_sockets
from turnout.gateway.logs import set_up_logs
from turnout.gateway.messages import Request, Response
from turnout.gateway.model_functions import make_functions
from turnout.gateway.stages import stage_settings
from turnout.openapi import build_document, lambda_uri, render_document
from turnout.plan import Plan
from turnout.planning import make_plan
from turnout.project import Project

ACCOUNT_ID = "000000000000"
REGION = "local"

SHORT_BYTES = 400
"""A request that one can read in a terminal."""

SWITCH_INTERVAL_S = 0.0005
"""How long a thread that computes in Python may keep the interpreter from the event loop; Python's default is 5 ms."""


def make_local_plan(project: Project) -> Plan:
    """The plan for this machine: what only AWS would refuse, its quotas, is a note here."""
    return make_plan(project.manifest, project.artifacts, enforce=False)


def build_gateway(
    project: Project,
    plan: Plan,
    functions: Functions,
    *,
    stage: str = "",
    keys: Mapping[str, str] | None = None,
    port: int = 80,
    access_log: AccessLog | None = None,
) -> Gateway:
    """The whole API without sockets.

    Args:
        project: the manifest and its artifacts.
        plan: made of them.
        functions: what runs the plan's functions; closed by whoever made it.
        stage: answers paths that name none; empty is the manifest's first.
        keys: stage -> API key, for the stages that ask for one.
        port: what events say of this place.
        access_log: told of every request, or None.
    """
    apis = []
    examples = _first_requests(project)
    for api in plan.apis:
        document = build_document(plan, api, lambda_uri("aws", REGION, ACCOUNT_ID), examples=examples)
        api_id = _digest(api.name.encode(), 10)
        deployment_id = _digest(render_document(document), 6)
        stages = tuple(stage_settings(row, api_id, deployment_id) for row in api.stages)
        apis.append(RestApi(api_id, document, stages))
    return Gateway(
        apis,
        functions,
        default_stage=stage or project.manifest.stages[0].name,
        endpoint=Endpoint(account_id=ACCOUNT_ID, port=port),
        api_keys={name: [ApiKey(_digest(key.encode(), 10), key)] for name, key in (keys or {}).items()},
        timeouts_s={function.name: float(function.timeout_s) for function in plan.functions},
        access_log=access_log,
    )


def load_keys(project: Project, plan: Plan) -> dict[str, str]:
    """The API keys of the stages that ask for one, made where they are new."""
    stages = [row.name for api in plan.apis for row in api.stages if row.auth == "api_key"]
    return load_api_keys(project.manifest.path.parent / ".turnout" / "api_keys.json", stages)


def serve(
    project: Project,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    stage: str = "",
    preload: bool = False,
    log_format: str = "text",
    access_log: bool = True,
    isolation: Isolation | None = None,
    preparing: Callable[[], AbstractContextManager[Progress]] = lambda: nullcontext(ignore_progress),
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight.

    What is worth knowing goes to standard error, the access log to standard output.

    Args:
        project: the manifest and its artifacts.
        host: to listen on.
        port: to listen on; 0 takes a free one.
        stage: answers paths that name none; empty is the manifest's first.
        preload: open every session before the first request.
        log_format: `text` or `json`.
        access_log: whether each request gets a line.
        isolation: how each function runs in processes of its own; None runs all in this one.
        preparing: shows progress while the isolated functions' packages are built.

    Raises:
        LayerError: the isolated functions' layer or runtime cannot be resolved.
        OSError: the address cannot be listened on.
        ProblemsError: the plan or the API keys cannot be used.
    """
    from turnout.gateway import http

    set_up_logs(log_format, sys.stderr)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    plan = make_local_plan(project)
    keys = load_keys(project, plan)
    default_stage = stage or project.manifest.stages[0].name
    sockets = bind_sockets(host, port)
    bound_port = sockets[0].getsockname()[1]
    lines = LineWriter(sys.stdout)
    line_log = json_log(lines.write, ACCOUNT_ID) if log_format == "json" else text_log(lines.write)
    functions: InProcessFunctions | IsolatedFunctions
    try:
        if isolation is None:
            functions = make_functions(project, plan)
        else:
            with preparing() as progress:
                functions = open_isolated(project, plan, isolation, progress=progress)
    except BaseException:
        for bound in sockets:
            bound.close()
        raise
    loads: list[asyncio.Task[None]] = []
    try:
        gateway = build_gateway(
            project,
            plan,
            functions,
            stage=default_stage,
            keys=keys,
            port=bound_port,
            access_log=line_log if access_log else None,
        )
        if preload and isinstance(functions, InProcessFunctions):
            asyncio.run(functions.preload(tell_load))

        def greet(*_: object) -> None:
            notes = [*(f"{note.path}: {note.message}" for note in plan.notes), *gateway.notes]
            url = make_url(host, bound_port)
            sample = choose_sample(project, plan, default_stage, keys)
            tell(
                render_banner(project.manifest, url, default_stage=default_stage, keys=keys, sample=sample, notes=notes)
            )
            if preload and isinstance(functions, IsolatedFunctions):
                # Environments belong to the event loop that serves.
                loads.append(asyncio.get_running_loop().create_task(functions.preload(tell_load)))

        refusals = {int(status): make_refusal(status) for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST}
        log = partial(log_refusal, refusals, lines.write, log_format) if access_log else None
        # What is there now stays: else each full collection would walk through all of it, for milliseconds.
        gc.collect()
        gc.freeze()
        http.run(gateway.handle, host=host, port=port, sockets=sockets, on_ready=greet, refusals=refusals, log=log)
    finally:
        lines.flush()
        for bound in sockets:
            bound.close()
        functions.close()
    if functions.busy_after_close:
        # The user's code holds threads that nothing can stop; the interpreter's own end might crash under them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def make_url(host: str, port: int) -> str:
    """An address to paste: one that stands for all of a machine's becomes its loopback address."""
    shown = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - told, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def choose_sample(project: Project, plan: Plan, stage: str, keys: Mapping[str, str]) -> Sample | None:
    """A request that fits on a screen: the first model's that does, or the shortest; None where nothing can be read."""
    served = next(row for row in project.manifest.stages if row.name == stage).serve
    requests = _first_requests(project)
    samples: list[tuple[int, Sample]] = []
    for row in plan.versions:
        model, version = row.version.model, row.version.name
        if (model, version) not in project.artifacts or served.get(model, version) != version:
            continue
        path = f"/models/{model}/inference" if model in served else f"/models/{model}/{version}/inference"
        body = requests.get((model, version)) or make_request(row.signature)
        size = len(orjson.dumps(body))
        samples.append((size, Sample(path, body, keys.get(stage, ""))))
        if size <= SHORT_BYTES:
            break
    if not samples:
        return None
    # The last one is short, or none is.
    return samples[-1][1] if samples[-1][0] <= SHORT_BYTES else min(samples, key=lambda found: found[0])[1]


def tell(text: str) -> None:
    """Say something to whoever started the server."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def tell_load(loaded: Loaded) -> None:
    """One line of progress."""
    function = loaded.function
    outcome = f"failed: {loaded.reason}" if loaded.reason else f"loaded in {loaded.seconds:.2f} s"
    tell(f"[{loaded.done}/{loaded.total}] {function.model} {function.version} {outcome}")


def log_refusal(
    refusals: Mapping[int, Response],
    write: Callable[[str], object],
    log_format: str,
    request: Request,
    response: Response,
    seconds: float,
) -> None:
    """A line for what the HTTP server refused by itself; the gateway logs everything that reaches it."""
    if refusals.get(response.status) is not response:
        return
    if log_format == "json":
        row = {
            "identity.sourceIp": request.client,
            "httpMethod": request.method,
            "path": request.path,
            "status": response.status,
            "responseLength": len(response.body),
            "responseLatency": round(seconds * 1000, 3),
        }
        write(orjson.dumps(row).decode())
        return
    write(
        f"{escape(request.client)} {escape(request.method)} {escape(request.path)} {response.status} "
        f"{seconds * 1000:.1f}ms {len(response.body)}B function=- canary=false id=-"
    )


def _first_requests(project: Project) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The first example of each version that has some: what the document shows."""
    folder = project.manifest.path.parent
    versions = [version for model in project.manifest.models for version in model.versions if version.examples]
    found = ((version, read_examples(folder / version.examples)) for version in versions)
    return {(version.model, version.name): examples[0].request for version, examples in found if examples}


def _digest(data: bytes, length: int) -> str:
    """A short id, the same for the same data."""
    return hashlib.sha256(data).hexdigest()[:length]
