"""Makes the names that the plan, the routers, the gateway and AWS share. No other module makes them.

A model's name is `[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*`, a version's `[a-z0-9]+(-[a-z0-9]+)*` (the schema checks both).
Each word of a model's name starts with a letter, so camelCase loses nothing. In a version, a digit may follow a hyphen,
so the hyphen becomes an upper-case letter, which no version contains.
"""

from __future__ import annotations

import re

DIGEST_CHARACTERS = 6

_PLAIN_STACK = re.compile(r"[a-z0-9]+")
"""Stacks whose name is one lower-case word: the last word of the prefix is the stack, the rest before it is the
platform.
"""

ALIAS_VARIABLE = "alias"
"""The stage variable with the Lambda alias, `live` or `next`."""

CANARY_VARIABLE = "canary"
"""The stage variable with the share of traffic that a function serves: `true` for the canary's, else `false`."""

ROUTER = "router"
"""The value of a model's stage variable if its router answers."""

GRAPH = "graph"
"""The value of a graph's route variable, since it has no versions to choose from."""

LIVE = "live"
"""The Lambda alias that every baseline calls."""

NEXT = "next"
"""The Lambda alias that a release canary calls; it points to the newest code."""

ASYNC_ALIASES = {LIVE: f"{LIVE}_async", NEXT: f"{NEXT}_async"}
"""Alias -> the one of the same function version by which asynchronous runs call it.

Lambda counts calls by alias, so the metrics of `live` and `next` have synchronous calls only.
"""

UPLOAD_HEADER = "x-turnout-upload"
"""Header of an asynchronous request: the upload to use as its body."""

CALLBACK_HEADER = "x-turnout-callback"
"""Header of an asynchronous request: the address of its webhook."""

MODEL_HEADER = "x-turnout-model"
VERSION_HEADER = "x-turnout-version"
"""Header of a response: the version that answered; of a request, if the stage allows it: the version to call."""

DIGEST_HEADER = "x-turnout-digest"
"""Header: the first 12 hexadecimal digits of the artifact's SHA-256."""

CANARY_HEADER = "x-turnout-canary"
"""Header: whether the canary's share of the stage answered, `true` or `false`."""

ROUTE_HEADER = "x-turnout-route"
"""Header of a router's response: the reason for its choice."""

FALLBACK_HEADER = "x-turnout-fallback-from"
"""Header of a router's response: the versions that failed before another one answered. A graph adds models: `iris
v2`.
"""

REPLAY_HEADER = "x-turnout-replay"
"""Header of a request that is sent again. Any client can send it, so each reader decides how far to trust it."""

RESERVED_MODELS = frozenset({ALIAS_VARIABLE, CANARY_VARIABLE})
POOL = "pool"
"""The last word of a pool's function name; no version has this name."""

RESERVED_VERSIONS = frozenset({"router", "inference", "newest", POOL})

CONTROL_PLANE_SEGMENT = "restapis"
INVOKE_SEGMENT = "2015-03-31"
OWN_SEGMENT = "turnout"
METRICS_SEGMENT = "metrics"
CONSOLE_SEGMENT = "console"
DOCS_SEGMENT = "docs"
SERVICE_SEGMENTS = frozenset(
    {CONTROL_PLANE_SEGMENT, INVOKE_SEGMENT, OWN_SEGMENT, METRICS_SEGMENT, CONSOLE_SEGMENT, DOCS_SEGMENT}
)
"""First segments of paths of the local gateway's services; no stage may have these names."""

API_SEGMENTS = frozenset({"models", "v2", "health", "openapi", "requests", "uploads"})
"""First segments of the API's own paths, which start paths without a stage."""

TRANSFER_SEGMENT = "transfers"
"""First segment of the signed addresses of bodies and answers. They are not part of the API: on AWS they are S3's."""

RESERVED_STAGES = (API_SEGMENTS | SERVICE_SEGMENTS | {"runtime", TRANSFER_SEGMENT}) - {
    INVOKE_SEGMENT
}  # no stage begins with a digit


def function_prefix(platform: str, stack: str) -> str:
    """Return the start of every function's name: `turnout-prod`, or `shop-eu-prod--1f0a3c` for a stack `eu-prod`.

    Different platforms and stacks have different prefixes, even in services that ignore case (roles, buckets). Without
    the digest, `shop` with the stack `eu-prod` would be the same as `shop-eu` with `prod`, and the roles of `Prod` the
    same as those of `prod`. A platform has no two consecutive hyphens, so a plain prefix never equals one with a
    digest.
    """
    plain = plain_prefix(platform, stack)
    if _PLAIN_STACK.fullmatch(stack):
        return plain
    import hashlib  # imported late: most programs need no digest, and routers start without it

    digest = hashlib.sha256(f"{platform}/{stack}".encode()).hexdigest()
    return f"{plain}--{digest[:DIGEST_CHARACTERS]}"


def plain_prefix(platform: str, stack: str) -> str:
    """Return the prefix without a digest, as in older versions."""
    return f"{platform}-{stack}"


def function_name(prefix: str, model: str, version: str) -> str:
    """Return `turnout-prod_iris_v1`: underscores separate names that may contain hyphens."""
    return f"{prefix}_{model}_{version}"


def variable_name(model: str) -> str:
    """Return the stage variable with the served version: `bertBase` for `bert-base`."""
    first, *rest = model.split("-")
    return first + "".join(word.capitalize() for word in rest)


def route_variable_name(model: str) -> str:
    """Return the stage variable with a router's choice: `irisRoute`."""
    return route_variable_of(variable_name(model))


def route_variable_of(variable: str) -> str:
    """Return the same from the model's own stage variable: `irisRoute` for `iris`."""
    return f"{variable}Route"


def router_name(prefix: str, model: str) -> str:
    """Return `turnout-prod_iris_router`; the model's variable selects it with the word `router`."""
    return function_name(prefix, model, ROUTER)


def split_function_name(name: str) -> tuple[str, str]:
    """Return the model and the version in a function's name; the version of a router is `router`.

    The general router has no model. Both are empty for other names.
    """
    parts = name.split("_")
    if len(parts) == 3:
        return parts[1], parts[2]
    return ("", ROUTER) if len(parts) == 2 and parts[1] == ROUTER else ("", "")


def pool_name(prefix: str, pool: str) -> str:
    """Return `turnout-prod_small_pool`, the function of a pool's versions."""
    return function_name(prefix, pool, POOL)


def is_pool(function: str) -> bool:
    """Whether a function's name is a pool's."""
    return function.endswith(f"_{POOL}")


def general_router_name(prefix: str) -> str:
    """Return `turnout-prod_router`: the function of the catalogue, health and the Open Inference Protocol."""
    return f"{prefix}_{ROUTER}"


def schema_name(model: str, version: str, kind: str) -> str:
    """Return a version's OpenAPI schema: `BertBaseV1X2Request` for `bert-base`, `1-2`, `Request`.

    It has only letters and digits. A version contains no capital except the `X` that replaces a hyphen, so the last `V`
    before `kind` separates model and version unambiguously.
    """
    words = "".join(word.capitalize() for word in model.split("-"))
    return f"{words}V{version.replace('-', 'X')}{kind}"


def stack_bucket_name(prefix: str, account: str, region: str) -> str:
    """Return the name of a stack's bucket. Bucket names are unique across all of AWS."""
    return f"{prefix}-{account}-{region}".lower()
