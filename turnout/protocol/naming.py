"""How a model and a version are spelled in the four places with four alphabets, one injective spelling each.

A model's name is `[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*`, a version's `[a-z0-9]+(-[a-z0-9]+)*` (the schema checks both):
each word of a model's name starts with a letter, so camelCase loses nothing; in a version a hyphen may stand before a
digit, so it becomes an upper-case letter that no version holds.
"""

from __future__ import annotations

from turnout.protocol.routing.choice import ROUTER

ALIAS_VARIABLE = "alias"
"""The stage variable that names the Lambda alias, `live` or `next`."""

CANARY_VARIABLE = "canary"
"""The stage variable that tells a function which share of the traffic it serves, `true` or `false`."""

RESERVED_MODELS = frozenset({ALIAS_VARIABLE, CANARY_VARIABLE})
RESERVED_VERSIONS = frozenset({"router", "inference", "newest"})
RESERVED_STAGES = frozenset({"models", "v2", "health", "openapi", "restapis", "runtime", "turnout"})


def function_prefix(platform: str, stack: str) -> str:
    """What every function's name starts with: `turnout-prod`."""
    return f"{platform}-{stack}"


def function_name(prefix: str, model: str, version: str) -> str:
    """`turnout-prod_iris_v1`: underscores part what hyphens may stand in."""
    return f"{prefix}_{model}_{version}"


def variable_name(model: str) -> str:
    """The stage variable that holds the served version: `bert-base` is `bertBase`."""
    first, *rest = model.split("-")
    return first + "".join(word.capitalize() for word in rest)


def route_variable_name(model: str) -> str:
    """The stage variable that holds a router's live choice: `irisRoute`."""
    return f"{variable_name(model)}Route"


def router_name(prefix: str, model: str) -> str:
    """`turnout-prod_iris_router`, which the model's variable names with the word `router`."""
    return function_name(prefix, model, ROUTER)


def general_router_name(prefix: str) -> str:
    """`turnout-prod_router`: the function of the catalogue, health and the Open Inference Protocol."""
    return f"{prefix}_{ROUTER}"


def schema_name(model: str, version: str, kind: str) -> str:
    """The OpenAPI schema of one version: `bert-base`, `1-2`, `Request` is `BertBaseV1X2Request`.

    Letters and digits only. A version holds no capital but the `X` that stands for a hyphen, so the last `V` before
    `kind` parts model and version without doubt.
    """
    words = "".join(word.capitalize() for word in model.split("-"))
    return f"{words}V{version.replace('-', 'X')}{kind}"
