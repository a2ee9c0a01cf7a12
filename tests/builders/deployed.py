"""Manifests deployed under Pulumi's mocks, without reading models or building packages."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.account import AccountSettings
from infra.naming import Place
from infra.program import deploy
from tests.builders.manifests import artifacts_of
from tests.builders.pulumi_program import Program, Resource, run_program
from turnout.manifest.parser import Manifest
from turnout.packaging.build import BuiltPackage
from turnout.plan.values import Plan
from turnout.project.project import Project


def project_of(of: Manifest) -> Project:
    """A project of the manifest, with artifacts that were never read."""
    return Project(of, artifacts_of(of))


def packages_of(plan: Plan, **sizes: int) -> list[BuiltPackage]:
    """A package for each function and each layer, without a file on disk; `sizes` are `zip_bytes` and the like."""
    size = {"zip_bytes": 1000, "unzipped_bytes": 3000} | sizes

    def package(name: str, kind: str, digest: str, layer: str = "") -> BuiltPackage:
        return BuiltPackage(name, kind, Path(f"/{name}.zip"), digest, cached=False, layer=layer, **size)

    shas = {entry.name: entry.sha256 or "c" * 64 for entry in plan.packages}
    layers = {function.package: f"layer_{function.settings.architecture}_python3.13" for function in plan.functions}
    layered = {function.package for function in plan.functions if function.runs_models}
    return [
        *(package(layer, "layer", "d" * 64) for layer in sorted(set(layers.values()))),
        *(package(name, "function", shas[name], layer if name in layered else "") for name, layer in layers.items()),
    ]


@dataclass
class KnownAccount:
    """An account with invented values that records which versions were pruned."""

    known: AccountSettings | None = None
    role: str | None = ""
    there: Mapping[str, Sequence[str]] = field(default_factory=dict)
    calling: Collection[str] | None = ()
    pruned: list[tuple[list[str], int]] = field(default_factory=list)

    def settings(self, place: Place) -> AccountSettings | None:
        return self.known

    def logs_role(self, place: Place) -> str | None:
        return self.role

    def layers(self, place: Place) -> Mapping[str, Sequence[str]]:
        return self.there

    def next_stages(self, place: Place, rest_apis: Mapping[str, str]) -> Collection[str] | None:
        return self.calling

    def prune(self, place: Place, functions: Collection[str], keep: int) -> Sequence[tuple[str, str]]:
        self.pruned.append((sorted(functions), keep))
        return []

    def prune_tables(self, place: Place, served: Collection[str]) -> Sequence[str]:
        return []


def deployed(
    of: Manifest | Path,
    *,
    build: Callable[[Project, Plan], Sequence[BuiltPackage]] = lambda _project, plan: packages_of(plan),
    account: AccountSettings | None = None,
    logs_role: str | None = "",
    layers: Mapping[str, Sequence[str]] | None = None,
    calling: Collection[str] | None = (),
    **run: Any,
) -> Program:
    """Return the result of deploying a manifest, or a folder with one.

    Args:
        of: a manifest, whose artifacts need not exist, or a folder, which is read.
        build: makes the packages.
        account: the account's quotas; None if they cannot be read.
        logs_role: the role with which API Gateway writes logs; None if it cannot be read.
        layers: name -> digests of the existing versions, newest first.
        calling: the stages that call the alias `next`; None if they cannot be read.
        run: arguments of `run_program`.
    """
    known = KnownAccount(account, logs_role, layers or {}, calling)
    if isinstance(of, Manifest):
        project = project_of(of)
        return run_program(lambda: deploy(Path(), load=lambda _: project, build=build, account=known), **run)
    return run_program(lambda: deploy(of, build=build, account=known), **run)


def policy_of(resource: Resource) -> list[dict[str, Any]]:
    """Return the statements of a role's policy."""
    statements: list[dict[str, Any]] = json.loads(resource.inputs["policy"])["Statement"]
    return statements


def may_invoke(statements: Sequence[dict[str, Any]], arn: str) -> bool:
    """Whether a role's policy allows calling a function's alias; as in IAM, a denial outweighs."""
    effects = {
        statement["Effect"]
        for statement in statements
        if "lambda:InvokeFunction" in statement["Action"]
        and any(fnmatch.fnmatchcase(arn, pattern) for pattern in statement["Resource"])
    }
    return effects == {"Allow"}
