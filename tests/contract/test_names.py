"""One name, one thing: two classes of one name in two rooms make a reader look twice at every import."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

SAME_THING = {
    "Cancellation": "what stops a run: the gateway's protocol, and what the functions hand out",
    "GatewayError": "an error of API Gateway, which routers say in its words on AWS and the gateway here",
    "Model": "a served model in models.yaml; and within a function's zip the open one, by a name that runtimes share",
    "StoredFile": "a model's file in S3, as it is packaged and as a function reads it",
}
"""Names that two packages have for the same thing since zips share no code with the rest, or that are agreed upon."""


def test_a_public_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for package in ("turnout", "infra", "model_lambdas", "router_lambda"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.parse(path.read_bytes()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and name not in SAME_THING} == {}
    assert {name for name in SAME_THING if len(places[name]) < 2} == set()
