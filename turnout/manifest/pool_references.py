"""Rules for a pool and its versions, which share one function."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from turnout.manifest.lambda_references import check_version_keys
from turnout.manifest.schema import Finding, schema_default
from turnout.manifest.tree import Tree, mapping, models_of, sequence
from turnout.runtimes.registry import DEFAULT_RUNTIME
from turnout.wording import did_you_mean, listed
from turnout.yaml_text.quoting import show
from turnout.yaml_text.reader import KeyPath

SHARED_KEYS = (
    "architecture",
    "memory_mb",
    "timeout_s",
    "warm",
    "ephemeral_storage_mb",
    "environment",
    "tracing",
    "slo",
    "reserved_concurrency",
)
"""Keys of a version that its pool sets."""

_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_SAME_FUNCTION = "versions of a pool share one function"


def pool_of(tree: Tree, model: str, version: str) -> str:
    """Return the pool of a version; empty if it has none or it cannot be read."""
    body = mapping(models_of(tree).get(model))
    pool = mapping(mapping(body.get("versions")).get(version)).get("pool", body.get("pool"))
    return pool if isinstance(pool, str) else ""


def check_pools(tree: Tree) -> Iterator[Finding]:
    """Check each pooled version against its pool and against the pool's other versions."""
    for pool, body in mapping(tree.get("pools")).items():
        yield from check_version_keys(("pools", pool), mapping(body))
    known = tree.get("pools")
    first: dict[str, tuple[str, str]] = {}
    wanted: dict[tuple[str, str], tuple[str, str, str]] = {}
    for model, body in models_of(tree).items():
        if not _names_pool(mapping(body)):
            continue
        for version, fields in mapping(mapping(body).get("versions")).items():
            path = ("models", model, "versions", version)
            pool = pool_of(tree, model, version)
            if not pool:
                continue
            key = (*path, "pool") if "pool" in mapping(fields) else ("models", model, "pool")
            if isinstance(known, dict) and known and pool not in known:
                hint = f"Known pools: {listed(known)}. Or add it: `pools: {{{pool}: {{}}}}`."
                yield Finding(key, f"unknown pool `{pool}`{did_you_mean(pool, known)}", hint)
            yield from _own_settings(tree, path, pool, mapping(fields))
            yield from _runtime(tree, path, pool, first.setdefault(pool, (model, version)))
            yield from _requirements(path, pool, mapping(fields), wanted)
        if any(pool_of(tree, model, version) for version in mapping(mapping(body).get("versions"))):
            yield from _own_routes(tree, model)


def _names_pool(body: Tree) -> bool:
    return "pool" in body or any("pool" in mapping(fields) for fields in mapping(body.get("versions")).values())


def _own_settings(tree: Tree, path: KeyPath, pool: str, fields: Tree) -> Iterator[Finding]:
    """Report settings of a version that differ from its pool's."""
    defaults, settings = mapping(tree.get("defaults")), mapping(mapping(tree.get("pools")).get(pool))
    for key in SHARED_KEYS:
        if key not in fields:
            continue
        pooled = settings.get(key, defaults.get(key, _default(key)))
        if fields[key] != pooled:
            has = f"it has {show(pooled)}" if pooled is not None else "it has none"
            hint = f"Set `pools.{pool}.{key}` for all of them, or take the version out of the pool."
            message = f"must be that of the pool `{pool}`, {has}: {_SAME_FUNCTION}"
            yield Finding((*path, key), message, hint)
    if fields.get("async") is True:
        hint = "Delete `async`, or take the version out of the pool."
        yield Finding((*path, "async"), f"cannot be combined with a pool: {_SAME_FUNCTION}", hint)


def _default(key: str) -> Any:
    return schema_default(key) if key in {"architecture", "memory_mb", "timeout_s"} else None


def _runtime(tree: Tree, path: KeyPath, pool: str, first: tuple[str, str]) -> Iterator[Finding]:
    fields, other = mapping(_version(tree, path[1], path[3])), mapping(_version(tree, *first))
    runtime, expected = fields.get("runtime", DEFAULT_RUNTIME), other.get("runtime", DEFAULT_RUNTIME)
    if runtime != expected:
        message = f"must be `{expected}`, as of {first[0]} {first[1]}, in the pool `{pool}`: {_SAME_FUNCTION}"
        yield Finding((*path, "runtime"), message, "Put versions of another runtime into a pool of their own.")


def _version(tree: Tree, model: Any, version: Any) -> Any:
    return mapping(mapping(models_of(tree).get(model)).get("versions")).get(version)


def _requirements(
    path: KeyPath, pool: str, fields: Tree, wanted: dict[tuple[str, str], tuple[str, str, str]]
) -> Iterator[Finding]:
    """Report requirements on different releases of a package: one function has only one."""
    for index, line in enumerate(sequence(fields.get("requirements"))):
        match = _PACKAGE.match(line) if isinstance(line, str) else None
        if match is None:
            continue
        name = re.sub(r"[-_.]+", "-", match[0]).lower()
        spelled, model, version = wanted.setdefault((pool, name), (line, str(path[1]), str(path[3])))
        if spelled.replace(" ", "") != line.replace(" ", ""):
            message = f"conflicts with `{spelled}` of {model} {version} in the pool `{pool}`: {_SAME_FUNCTION}"
            hint = "Require the same in both, or take one of them out of the pool."
            yield Finding((*path, "requirements", index), message, hint)


def _own_routes(tree: Tree, model: str) -> Iterator[Finding]:
    """Report a model's own routes: they lead to a function of that model."""
    message = "cannot be combined with a pool: pooled versions are called by the routes that models share"
    if mapping(models_of(tree)[model]).get("direct") is True:
        yield Finding(("models", model, "direct"), message, "Delete `direct`, or take the model out of its pool.")
    elif tree.get("routes") == "direct":
        hint = "Set `routes: auto`, which leaves the other models their own routes."
        yield Finding(("models", model), f"`routes: direct` {message}", hint)
