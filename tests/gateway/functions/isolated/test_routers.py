"""Routers in their own processes: their zips as on Lambda, each with Lambda's Invoke API next to it."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.builders.isolated_project import ANSWER, EXIT, event_of, pid_of, play, processes_of
from tests.builders.waiting import PATIENCE_S, wait_on_loop
from turnout.gateway.editions.isolated import serve_invoke
from turnout.gateway.functions.invocation import Invocation
from turnout.gateway.functions.isolated.functions import IsolatedFunctions
from turnout.gateway.functions.isolated.limits import EnvironmentLimits
from turnout.gateway.functions.isolated.process import FunctionCode
from turnout.gateway.services.invoke_server import invoke_server
from turnout.http_server.messages import Request, Response

CodeOf = Mapping[str, FunctionCode]

ROUTER = "turnout-local_pair_router"
SECOND = "turnout-local_pair_v2"
VARIABLES = {"alias": "live", "canary": "false", "pair": "router", "pairRoute": "v2.100"}


async def ask(functions: IsolatedFunctions, action: int) -> Invocation:
    event = event_of(action, stageVariables=VARIABLES, requestContext={"stage": "dev"})
    result = functions.invoke(ROUTER, "live", event, PATIENCE_S)
    return result if isinstance(result, Invocation) else await result


def variables_of(code: FunctionCode) -> dict[str, str]:
    (process,) = processes_of([code])
    rows = Path(f"/proc/{process}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in rows if entry)


def test_router_calls_a_version_and_falls_back_when_its_process_ends(code_of: CodeOf) -> None:
    codes = [code_of["pair"], code_of[SECOND], code_of[ROUTER]]

    async def scenario(functions: IsolatedFunctions) -> None:
        answered = await ask(functions, ANSWER)
        assert answered.answer is not None
        assert answered.answer["headers"]["x-turnout-version"] == "v2"
        assert {pid_of(answered)} == processes_of([code_of[SECOND]])
        fallen = await ask(functions, EXIT)
        assert fallen.answer is not None
        assert fallen.answer["statusCode"] == 200
        headers = fallen.answer["headers"]
        assert (headers["x-turnout-version"], headers["x-turnout-fallback-from"]) == ("v1", "v2")

    play(codes, scenario)


def test_only_a_router_gets_the_address_for_calling_functions(code_of: CodeOf) -> None:
    codes = [code_of["pair"], code_of[SECOND], code_of[ROUTER]]

    async def scenario(functions: IsolatedFunctions) -> None:
        pid_of(await ask(functions, ANSWER))
        router, model = variables_of(code_of[ROUTER]), variables_of(code_of[SECOND])
        assert router["AWS_ENDPOINT_URL_LAMBDA"].startswith("http://127.0.0.1:")
        assert (router["AWS_ACCESS_KEY_ID"], router["AWS_SECRET_ACCESS_KEY"]) == ("local", "local")
        assert not any(name.startswith(("AWS_ENDPOINT", "AWS_ACCESS", "AWS_SECRET")) for name in model)
        assert (model["PLACE"], "PLACE" in router) == ("here", False)

    play(codes, scenario)


def test_router_that_outlives_its_edition_calls_the_current_functions(code_of: CodeOf) -> None:
    codes = [code_of["pair"], code_of[SECOND], code_of[ROUTER]]
    changed = replace(
        code_of[SECOND],
        function=replace(code_of[SECOND].function, settings=replace(code_of[SECOND].function.settings, timeout_s=14)),
    )

    async def scenario(functions: IsolatedFunctions) -> None:
        before = pid_of(await ask(functions, ANSWER))
        router = processes_of([code_of[ROUTER]])
        following = IsolatedFunctions(
            lambda: [codes[0], changed, codes[2]],
            EnvironmentLimits(2, 300.0),
            serve_invoke=serve_invoke,
            before=functions,
        )
        assert await following.prepare(everything=False) == ""
        functions.retire(following)
        await wait_on_loop(lambda: before not in processes_of([changed]), "the end of the old version")
        assert pid_of(await ask(following, ANSWER)) in processes_of([changed])
        assert processes_of([code_of[ROUTER]]) == router

    play(codes, scenario)


def test_router_without_its_function_answers_as_api_gateway_would(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        answered = await ask(functions, ANSWER)
        assert answered.answer is not None
        assert answered.answer["statusCode"] == 500

    play([code_of[ROUTER]], scenario)


@pytest.mark.parametrize(("headers", "status"), [({}, 200), ({"Origin": "http://attacker.example"}, 403)])
def test_server_next_to_a_router_is_only_for_programs_and_ends_with_it(headers: Mapping[str, str], status: int) -> None:
    async def handle(request: Request) -> Response:
        return Response(200, (), request.path.encode())

    def post(port: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            connection.request("POST", "/x", b"{}", dict(headers))
            return connection.getresponse().status
        finally:
            connection.close()

    async def scenario() -> tuple[int, int]:
        async with invoke_server(handle) as variables:
            port = urlsplit(variables["AWS_ENDPOINT_URL_LAMBDA"]).port
            assert port is not None
            return await asyncio.to_thread(post, port), port

    answered, port = asyncio.run(scenario())
    assert answered == status
    with pytest.raises(ConnectionRefusedError):
        post(port)
