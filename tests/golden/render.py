"""Renders the golden files, for the test that compares them and the command that writes them."""

from __future__ import annotations

from pathlib import Path

import orjson

from turnout.openapi.document import build_document, lambda_uri, render_document
from turnout.plan.as_json import plan_to_json
from turnout.plan.planner import make_plan
from turnout.project.project import load_project


def render_golden(root: Path) -> dict[str, bytes]:
    """Return file name -> bytes: the plan, and the document of its last API (the one that requires a key) as AWS gets
    it.
    """
    project = load_project(root / "models.yaml", cache=False)
    plan = make_plan(project.manifest, project.artifacts, stack="prod")
    examples = project.first_requests
    document = build_document(plan, plan.apis[-1], lambda_uri("aws", "eu-central-1", "123456789012"), examples=examples)
    return {
        "plan.json": orjson.dumps(plan_to_json(plan), option=orjson.OPT_INDENT_2) + b"\n",
        "openapi.json": render_document(document, indent=True) + b"\n",
    }
