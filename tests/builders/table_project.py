"""A project whose choices do not fit into stage variables: many models with variables of their own, and long names."""

from __future__ import annotations

LONG = tuple(f"{'x' * 28}{number:02}" for number in range(40))
"""Models whose choices are in the table; each has the versions `OLD` and `v2`."""

OLD = "first-release-2024"


def table_manifest(artifact: str, *, stage: str = "prod", more: str = "") -> str:
    """Return a manifest with one artifact for all versions; `more` is added to the stage."""
    direct = (f"  d{number}: {{direct: true, versions: {{v1: {{artifact: {artifact}}}}}}}" for number in range(92))
    versions = f"{{{OLD}: {{artifact: {artifact}}}, v2: {{artifact: {artifact}}}}}"
    models = "\n".join((*direct, *(f"  {name}: {{versions: {versions}}}" for name in LONG)))
    serve = ", ".join((*(f"{name}: {OLD}" for name in LONG), '"*": newest'))
    head = f"platform: shop\nquotas: {{resources: 500}}\nmodels:\n{models}\n"
    return f"{head}stages:\n  {stage}:\n    serve: {{{serve}}}\n{more}"
