"""Every example in the document is answered with real inference by the gateway that serves the document."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from turnout.gateway.editions.edition import build_gateway, make_local_plan
from turnout.gateway.editions.in_process import make_functions
from turnout.http_server.messages import Request, Response
from turnout.openapi.document import build_document
from turnout.project.project import Project, load_project

KEY = "a key of the test's own"


@pytest.fixture(scope="module")
def project(root: Path) -> Project:
    return load_project(root / "models.yaml", cache=False)


def shown(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, request) of every example in the document; each operation that accepts requests has at least one."""
    for path, item in ((path, item) for path, item in document["paths"].items() if "post" in item):
        content = item["post"]["requestBody"]["content"]["application/json"]
        results = (
            [content["example"]]
            if "example" in content
            else [example["value"] for example in content["examples"].values()]
        )
        assert results
        yield from ((path, request) for request in results)


async def answer(gateway: Any, path: str, body: dict[str, Any]) -> Response:
    headers = [("content-type", "application/json"), ("host", "127.0.0.1"), ("x-api-key", KEY)]
    response = gateway.handle(Request("POST", path, "", headers, orjson.dumps(body)))
    return await response if inspect.isawaitable(response) else response


@pytest.mark.parametrize("given", [True, False], ids=["from examples.json", "made from signatures"])
def test_every_example_of_the_document_is_answered(project: Project, given: bool) -> None:
    plan = make_local_plan(project)
    examples = project.first_requests if given else {}
    keys = {stage.name: KEY for api in plan.apis for stage in api.stages if stage.auth == "api_key"}

    async def answers() -> list[tuple[str, int, bytes]]:
        with closing(make_functions(project, plan)) as functions:
            gateway = build_gateway(project, plan, functions, keys=keys)
            results = []
            for api in plan.apis:
                for path, request in shown(build_document(plan, api, examples=examples)):
                    response = await answer(gateway, f"/{api.stages[0].name}{path}", request)
                    results.append((f"{api.name} {path}", response.status, response.body))
        return results

    results = asyncio.run(answers())
    assert len(results) >= sum(route.kind == "inference" for api in plan.apis for route in api.routes)
    assert [result for result in results if result[1] != 200] == []
    assert all(orjson.loads(body) for _, _, body in results)
