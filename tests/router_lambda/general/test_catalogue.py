from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders.general_router import EXAMPLE, VARIABLES, X, Y, ask, route_event, small_catalogue
from turnout.protocol.routing.catalogue import Catalogue


def test_all_models_are_listed_with_what_the_stage_serves() -> None:
    reply = ask(route_event("/models"))
    assert reply.status == 200
    assert reply.json == {
        "platform": "turnout",
        "stage": "prod",
        "canary": False,
        "models": [
            {
                "name": "iris",
                "description": "What iris does.",
                "endpoint": "/prod/models/iris/inference",
                "serves": [{"version": "v1", "percent": 100}],
                "versions": ["v1", "v2"],
            },
            {
                "name": "forest",
                "description": "What forest does.",
                "endpoint": "/prod/models/forest/inference",
                "serves": [{"version": "v1", "percent": 90}, {"version": "v2", "percent": 10}],
                "versions": ["v1", "v2"],
            },
            {
                "name": "triage",
                "description": "What triage does.",
                "endpoint": "/prod/models/triage/inference",
                "graph": True,
            },
        ],
    }


def test_model_page_describes_the_tensors_of_every_version() -> None:
    page = ask(route_event("/models/{model}", model="iris")).json
    assert page["stage"] == "prod"
    assert page["serves"] == [{"version": "v1", "percent": 100}]
    assert page["versions"][0] == {
        "name": "v1",
        "description": "v1 of it",
        "endpoint": "/prod/models/iris/v1/inference",
        "percent": 100,
        "sha256": "ab" * 32,
        "size_bytes": 1000,
        "inputs": [X],
        "outputs": [Y],
    }
    assert page["versions"][1]["percent"] == 0


def test_model_page_of_a_graph_shows_its_calls() -> None:
    page = ask(route_event("/models/{model}", model="triage")).json
    assert page["graph"] is True
    assert page["inputs"] == [X]
    assert page["calls"] == [{"model": "iris"}, {"model": "forest", "version": "v2"}]


def test_routing_is_described_if_a_model_has_some() -> None:
    assert ask(route_event("/models/{model}", model="forest")).json["routing"] == {"fallback": "v1"}
    assert "routing" not in ask(route_event("/models/{model}", model="iris")).json


def test_version_page_has_the_examples() -> None:
    page = ask(route_event("/models/{model}/{version}", model="forest", version="v2")).json
    assert (page["model"], page["name"], page["percent"]) == ("forest", "v2", 10)
    assert page["examples"] == [EXAMPLE]


def test_canary_share_sees_its_own_variables() -> None:
    page = ask(
        route_event("/models/{model}", model="iris", variables={**VARIABLES, "iris": "v2", "canary": "true"})
    ).json
    assert page["canary"] is True
    assert page["serves"] == [{"version": "v2", "percent": 100}]


@pytest.mark.parametrize(
    ("variables", "serves"),
    [
        ({}, []),
        ({"iris": ""}, []),
        ({"iris": "router"}, []),
        ({"iris": "router", "irisRoute": "rubbish"}, []),
        ({"iris": "v9"}, [{"version": "v9", "percent": 100}]),
        ({"iris": "router", "irisRoute": "v1.0,v2.2.5"}, [{"version": "v2", "percent": 2.5}]),
    ],
)
def test_variables_set_by_other_tools_are_shown_unchanged(variables: dict[str, str], serves: list[Any]) -> None:
    assert ask(route_event("/models", variables=variables)).json["models"][0]["serves"] == serves


@pytest.mark.parametrize("base", ["", "/prod", "/mapped/deep"])
def test_endpoints_have_the_address_that_the_caller_used(base: str) -> None:
    page = ask(route_event("/models/{model}", model="iris", base=base)).json
    assert page["endpoint"] == f"{base}/models/iris/inference"


@pytest.mark.parametrize(
    ("parameters", "code", "said"),
    [
        ({"model": "nope"}, "UNKNOWN_MODEL", "unknown model `nope`; GET /models lists them"),
        ({"model": "a%2Fb"}, "UNKNOWN_MODEL", "unknown model `a/b`; GET /models lists them"),
        ({"model": "%C3%A9"}, "UNKNOWN_MODEL", "unknown model `é`; GET /models lists them"),
        ({"model": "%ff"}, "UNKNOWN_MODEL", "unknown model `\ufffd`; GET /models lists them"),
        ({"model": ".."}, "UNKNOWN_MODEL", "unknown model `..`; GET /models lists them"),
        ({"model": "iris", "version": "v3"}, "UNKNOWN_VERSION", "iris has no version `v3`; it has v1, v2"),
        (
            {"model": "triage", "version": "v1"},
            "UNKNOWN_VERSION",
            "triage has no version `v1`; it has none, it is a graph",
        ),
    ],
)
def test_unknown_names_are_404(parameters: dict[str, str], code: str, said: str) -> None:
    resource = "/models/{model}/{version}" if "version" in parameters else "/models/{model}"
    reply = ask(route_event(resource, **parameters))
    assert (reply.status, reply.json["code"], reply.json["error"]) == (404, code, said)


def test_escaped_names_are_read() -> None:
    assert ask(route_event("/models/{model}/{version}", model="i%72is", version="v%31")).json["name"] == "v1"


def test_get_of_an_inference_endpoint_is_405() -> None:
    reply = ask(route_event("/models/{model}/{version}", model="iris", version="inference"))
    assert (reply.status, reply.json["code"], reply.headers["Allow"]) == (405, "METHOD_NOT_ALLOWED", "POST")
    assert reply.json["error"] == "/prod/models/iris/inference: expected POST, got GET"


def test_every_path_of_an_unknown_model_is_404() -> None:
    assert ask(route_event("/models/{model}/{version}", model="nope", version="inference")).status == 404


def test_catalogue_is_restored_from_json() -> None:
    catalogue = replace(small_catalogue(), documents={"dev": "{}", "prod": "{}", "other": '{"x":1}'})
    files = catalogue.document_files()
    assert files == {"document0.json": "{}", "document1.json": '{"x":1}'}
    read: list[str] = []

    def read_file(name: str) -> str:
        read.append(name)
        return files[name]

    restored = Catalogue.from_json(catalogue.to_json(), "turnout-local", read_file)
    assert read == []  # a document of thousands of models takes a second to read
    assert restored == catalogue
    assert restored.documents.get("none") is None
