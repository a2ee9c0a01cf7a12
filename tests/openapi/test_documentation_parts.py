"""Documentation parts of a document, and where they are reported."""

from __future__ import annotations

from tests.builders.manifests import artifacts_of, manifest, model, stage
from turnout.openapi.document import Document, build_document
from turnout.openapi.documentation_parts import MOST_PARTS, count_documentation_parts
from turnout.plan.planner import make_plan


def document_of(models: int, versions: int) -> Document:
    names = [f"model-{'abcdefghij'[n // 10]}{'abcdefghij'[n % 10]}" for n in range(models)]
    of = manifest(
        tuple(model(name, tuple(f"v{number + 1}" for number in range(versions))) for name in names),
        stages=(stage(serve=dict.fromkeys(names, "v1")),),
    )
    plan = make_plan(of, artifacts_of(of), enforce=False)
    return build_document(plan, plan.apis[0])


def test_every_described_entity_is_a_part() -> None:
    document = {
        "info": {"title": "api", "description": "All."},
        "tags": [{"name": "iris"}],
        "paths": {
            "/a": {
                "post": {
                    "summary": "Call a.",
                    "parameters": [{"name": "x", "description": "An x."}, {"name": "y"}],
                    "requestBody": {"description": "A body."},
                    "responses": {"200": {"description": "OK", "headers": {"h": {"description": "A header."}}}},
                }
            }
        },
        "components": {"schemas": {"A": {"properties": {"inner": {"description": "No part of its own."}}}}},
    }
    assert count_documentation_parts(document) == 6


def test_an_api_within_its_resources_can_have_too_many_documentation_parts() -> None:
    assert count_documentation_parts(document_of(1, 1)) < MOST_PARTS
    assert count_documentation_parts(document_of(42, 2)) > MOST_PARTS
