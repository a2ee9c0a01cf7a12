"""Counts every quota of AWS that can be known before a deployment, with the used and the allowed number.

Source: API Gateway and Lambda quotas as of August 2026. MB and KB are 1,048,576 and 1,024 bytes, as Lambda counts them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from turnout.manifest.lambda_references import SNAP_START_DISK_MB
from turnout.manifest.parser import AccountQuotas, Version
from turnout.plan.checks.size_estimates import EMPTY_SCHEMA_BYTES, estimate_document, estimate_payload, estimate_schemas
from turnout.plan.values import Api, Function, Package, Plan, Quota, Route, RuntimeSizes, ServedVersion, StagePlan
from turnout.protocol.aws.limits import LARGEST_EVENT_BYTES
from turnout.protocol.telemetry import TELEMETRY_OFF
from turnout.runtimes.registry import RUNTIMES
from turnout.wording import size_text

MB = 1024 * 1024
GB = 1024 * MB

VARIABLES_PER_STAGE = 100
VARIABLE_CHARACTERS = 512
FUNCTION_NAME_CHARACTERS = 64
ENVIRONMENT_BYTES = 4 * 1024

REQUEST_VARIABLES_BYTES = 220
"""Bytes of the variables for the bucket and the queue of asynchronous requests, with the longest names."""
UNZIPPED_BYTES = 250 * MB
DIRECT_ZIP_BYTES = 50 * MB
DOCUMENT_BYTES = 6 * MB
SCHEMA_BYTES = 400 * 1024

MOST_DISK_MB = 10_240
NEW_ACCOUNT_MEMORY_MB = 3_008
"""The memory limit of a new account's functions until AWS raises it."""

DEFAULT_CONCURRENCY = 1_000
UNRESERVED_CONCURRENCY = 100
"""The part of an account's concurrency that AWS keeps for functions that reserve none. Source: Lambda's own error
message."""

KEPT_VERSIONS = 2
"""The default number of old versions of each function and layer that are kept, besides those in use."""

USAGE_PLANS = 300
"""The most usage plans of an account and region. Source: API Gateway Developer Guide, "Quotas for configuring and
running a REST API".
"""

DEFAULT_QUOTAS = AccountQuotas()

SHARED_RESOURCES = 20

SPLIT = "Split the models over several models.yaml, each with a `platform` of its own."
FEWER_INPUTS = "Export the model with fewer inputs: weights that are listed as inputs count too."


@dataclass(frozen=True, slots=True)
class Count:
    """One quota of the plan.

    Args:
        quota: the used and the allowed number.
        path: the manifest's key that causes it.
        remedy: what to do if it is exceeded, a sentence.
        hard: whether AWS would refuse the deployment; otherwise it is only a note.
    """

    quota: Quota
    path: tuple[str | int, ...]
    remedy: str
    hard: bool = True

    @property
    def sentence(self) -> str:
        """Return the used and the allowed amount."""
        return spell_use(self.quota)


def spell_use(quota: Quota) -> str:
    """Return `prod: stage variables: 120 used, 100 allowed`."""
    used, allowed = spell_amount(quota.used, quota.unit), spell_amount(quota.allowed, quota.unit)
    return f"{quota.subject}: {quota.name}: {used} used, {allowed} allowed"


def spell_amount(amount: float, unit: str = "") -> str:
    """Return `312.5 MB`, `29 s` or `100`."""
    return size_text(amount) if unit == "bytes" else f"{amount:,.15g} {unit}".rstrip()


def find_tightest(quotas: Iterable[Quota]) -> tuple[Quota, ...]:
    """Return, for each name, the one nearest to its limit, in the order of first occurrence."""
    tightest: dict[str, Quota] = {}
    for quota in quotas:
        other = tightest.get(quota.name)
        if other is None or quota.share > other.share:
            tightest[quota.name] = quota
    return tuple(tightest.values())


def is_stored(version: Version, size_bytes: int, runtime: RuntimeSizes | None = None) -> bool:
    """Whether a version's function fetches its model from S3: it is there, is in a pool, or is too large for a zip.

    Args:
        version: the manifest's version.
        size_bytes: size of its artifact.
        runtime: sizes of the other files in its function.
    """
    has_own = bool(version.requirements)
    fits = fits_zip(size_bytes, version.runtime, version.architecture, has_own_packages=has_own, sizes=runtime)
    return version.is_remote or bool(version.pool) or not fits


def fits_zip(
    size_bytes: int, runtime: str, architecture: str, *, has_own_packages: bool, sizes: RuntimeSizes | None = None
) -> bool:
    """Whether a model goes into its function's zip.

    The plan cannot know the size of a version's own packages, so it leaves the room that the runtime names.
    """
    sizes = sizes or RuntimeSizes()
    own = RUNTIMES[runtime].layer.own_bytes if has_own_packages else 0
    return size_bytes + sizes.code_bytes + sizes.layer_bytes[runtime][architecture] + own <= UNZIPPED_BYTES


def count_resources(routes: Iterable[Route]) -> int:
    """Return the number of resources of an API with these routes: its root and every distinct prefix of their paths."""
    prefixes = {"/"}
    for route in routes:
        path = route.path
        while path and path not in prefixes:
            prefixes.add(path)
            path = path.rpartition("/")[0]
    return len(prefixes)


def count_quotas(plan: Plan, account: AccountQuotas = DEFAULT_QUOTAS) -> Iterator[Count]:
    """Return every quota of the plan, exceeded or not, with the account's limits."""
    yield from _of_account(plan, account)
    for api in plan.apis:
        yield from _of_api(plan, api, account)
        yield from _of_document(api, plan)
        for stage in api.stages:
            yield from _of_stage(stage)
    for function in plan.functions:
        yield from _of_function(function, account.integration_timeout_s, REQUEST_VARIABLES_BYTES * plan.is_asynchronous)
    models = {package.name: package for package in plan.packages}
    for function in plan.functions:
        if function.runs_models:
            yield from _of_package(function, models[function.package])
    for version in plan.versions:
        yield from _of_payload(version)
        if is_stored(version.version, version.size_bytes):
            yield _of_disk(version)


def _of_account(plan: Plan, account: AccountQuotas) -> Iterator[Count]:
    """Yield quotas that all functions share; an update stops halfway if one is exceeded."""
    size = estimate_code_storage(plan)
    yield Count(
        Quota("code storage, estimated", plan.platform, size, account.code_storage_gb * GB, "bytes", raisable=True),
        ("models",),
        "Each kept version of a function counts with its zip. Keep large models in S3, where they do not count, "
        "or ask AWS to raise `Function and layer storage`: `quotas: {code_storage_gb: "
        f"{max(account.code_storage_gb + 1, math.ceil(size / GB))}}}` records the new limit.",
    )
    yield from _of_usage_plans(plan)
    reserving = [function for function in plan.functions if reserved_calls(function)]
    if reserving:
        reserved = sum(map(reserved_calls, reserving))
        known = account.concurrency
        allowed = max(0, (known or DEFAULT_CONCURRENCY) - min(UNRESERVED_CONCURRENCY, known or UNRESERVED_CONCURRENCY))
        first = reserving[0]
        key = ("warm", "provisioned") if first.settings.reserved_concurrency is None else ("reserved_concurrency",)
        yield Count(
            Quota("reserved concurrency, sum", plan.platform, reserved, allowed, raisable=True),
            (*_path_of(first), *key),
            f"AWS keeps {UNRESERVED_CONCURRENCY} of an account's concurrency for functions that reserve none; "
            "`provisioned` without `reserved_concurrency` counts, too. Reserve less, or ask AWS to raise `Concurrent "
            f"executions`: `quotas: {{concurrency: {reserved + UNRESERVED_CONCURRENCY}}}` records the new limit.",
            hard=known is not None,
        )
    yield from _of_memory(plan, account)


def _of_usage_plans(plan: Plan) -> Iterator[Count]:
    """Yield one per stage with API keys and one per consumer; reported if there are consumers."""
    keyed = [stage for api in plan.apis for stage in api.stages if stage.auth == "api_key"]
    consumers = [(stage.name, consumer.name) for stage in keyed for consumer in stage.consumers]
    if consumers:
        yield Count(
            Quota("usage plans", plan.platform, len(keyed) + len(consumers), USAGE_PLANS, raisable=True),
            ("stages", consumers[-1][0], "consumers"),
            "Ask AWS to raise `Usage plans per account per Region`, or let callers with equal limits share a consumer.",
            hard=False,
        )


def reserved_calls(function: Function) -> int:
    """Return how much of the account's concurrency a function keeps for itself: reserved, or else provisioned.

    Source: AWS Lambda Developer Guide, "Configuring provisioned concurrency": at most the unreserved concurrency less
    100.
    """
    settings = function.settings
    return settings.warm.provisioned if settings.reserved_concurrency is None else settings.reserved_concurrency


def _of_memory(plan: Plan, account: AccountQuotas) -> Iterator[Count]:
    """Yield every function with more memory than the account allows, or the largest one if none has."""
    models = [function for function in plan.functions if function.runs_models]
    known = account.memory_mb is not None
    allowed = account.memory_mb or NEW_ACCOUNT_MEMORY_MB
    largest = max(models, key=lambda model: model.settings.memory_mb, default=None)
    if largest is None:
        return
    for model in [model for model in models if known and model.settings.memory_mb > allowed] or [largest]:
        memory_mb = model.settings.memory_mb
        yield Count(
            Quota(
                "memory" if known else "memory, new account",
                model.name,
                model.settings.memory_mb,
                allowed,
                "MB",
                raisable=True,
            ),
            (*_path_of(model), "memory_mb"),
            f"New accounts get {NEW_ACCOUNT_MEMORY_MB:,} MB at first. `quotas: {{memory_mb: "
            f"{max(memory_mb, allowed)}}}` says that AWS allows yours more; else set `memory_mb` to {allowed}.",
            hard=known,
        )


def estimate_code_storage(plan: Plan, kept: int = KEPT_VERSIONS) -> int:
    """Return the bytes of all zips while an update changes every function.

    These are the zips of old versions, the present one and the new one.

    Weights hardly shrink in a zip, so a function's zip is assumed to be as large as its content.
    """
    layers = {package.layer_bytes for package in plan.packages if package.layer_bytes}
    zips = sum(package.artifact_bytes + package.code_bytes for package in plan.packages)
    return (zips + sum(layers)) * (kept + 2)


def _of_api(plan: Plan, api: Api, account: AccountQuotas) -> Iterator[Count]:
    resources = count_resources(api.routes)
    cheaper = f"`open_inference: proxy` takes {plan.resources['proxy']}. " if plan.open_inference == "direct" else ""
    yield Count(
        Quota("resources", api.name, resources, account.resources, raisable=True),
        ("models",),
        f"{cheaper}`routes: shared` takes about {SHARED_RESOURCES}. "
        f"Shard: split the models over {max(2, math.ceil(resources / account.resources))} models.yaml, each with a "
        "`platform` of its own, under one domain. "
        f"Or ask AWS to raise `Resources per API`: `quotas: {{resources: "
        f"{max(resources, account.resources)}}}` records the new limit.",
    )
    stages = len(api.stages)
    yield Count(
        Quota("stages", api.name, stages, account.stages, raisable=True),
        ("stages",),
        "Give some stages another `auth`, for which they get an API of their own. Or ask AWS to raise "
        f"`Stages per API`: `quotas: {{stages: {max(stages, account.stages)}}}` records the new limit.",
    )


def _of_document(api: Api, plan: Plan) -> Iterator[Count]:
    """Yield estimates; `turnout.openapi.document.check_document` counts exactly, and refuses."""
    versions = [version for version in plan.versions if version.version.model not in plan.shared]
    graphs = [graph for graph in plan.graphs if graph.model not in plan.shared]
    size = estimate_document(versions, api.routes, graphs)
    yield Count(
        Quota("document, estimated", api.name, size, DOCUMENT_BYTES, "bytes"),
        ("models",),
        SPLIT,
        hard=False,
    )
    if not versions:
        return
    largest = max(versions, key=estimate_schemas)
    size = EMPTY_SCHEMA_BYTES + estimate_schemas(largest)
    subject = f"{largest.version.model} {largest.version.name}"
    yield Count(
        Quota("largest schema, estimated", subject, size, SCHEMA_BYTES, "bytes"),
        ("models", largest.version.model, "versions", largest.version.name),
        FEWER_INPUTS,
        hard=False,
    )


def _of_stage(stage: StagePlan) -> Iterator[Count]:
    values = dict(stage.variables) | dict(stage.canary.overrides if stage.canary else {})
    projects = math.ceil(len(values) / VARIABLES_PER_STAGE)
    yield Count(
        Quota("stage variables", stage.name, len(values), VARIABLES_PER_STAGE),
        ("stages", stage.name),
        "A model takes one, a routed model two, and two are Turnout's own: use `routes: shared`, or split the models "
        f"over {max(2, projects)} models.yaml, each with a `platform` of its own, under one domain.",
    )
    longest = max(stage.variables.values(), key=len)
    yield Count(
        Quota("variable's value", stage.name, len(longest), VARIABLE_CHARACTERS, "characters"),
        ("stages", stage.name, "weights"),
        "Give traffic to fewer versions, or shorten their names.",
    )


def _path_of(function: Function) -> tuple[str, ...]:
    """Return the key in models.yaml that causes a function."""
    if function.kind == "pool":
        return ("pools", function.model)
    path: tuple[str, ...] = ("models", function.model) if function.model else ("platform",)
    return (*path, "versions", function.version) if function.version else path


def _of_function(function: Function, integration_timeout_s: int, own_bytes: int) -> Iterator[Count]:
    path = _path_of(function)
    yield Count(
        Quota("function's name", function.name, len(function.name), FUNCTION_NAME_CHARACTERS, "characters"),
        path,
        "Shorten the platform's, the stack's, the model's or the version's name.",
    )
    if function.runs_models and not function.settings.asynchronous:
        yield Count(
            Quota("timeout", function.name, function.settings.timeout_s, integration_timeout_s, "s"),
            (*path, "timeout_s"),
            f"API Gateway ends a call at {integration_timeout_s} s with a 504, whatever the function's own timeout.",
            hard=False,
        )
    environment = function.settings.environment
    if environment:
        size = own_bytes + sum(
            len(key.encode()) + len(value.encode()) for key, value in {**TELEMETRY_OFF, **environment}.items()
        )
        yield Count(
            Quota("environment", function.name, size, ENVIRONMENT_BYTES, "bytes"),
            (*path, "environment"),
            "Shorten the values, or write them into the transform as constants.",
        )


def _of_package(function: Function, package: Package) -> Iterator[Count]:
    path = _path_of(function) if function.kind == "pool" else (*_path_of(function), "artifact")
    unzipped = package.artifact_bytes + package.code_bytes
    yield Count(
        Quota("unzipped package and layer", package.name, unzipped + package.layer_bytes, UNZIPPED_BYTES, "bytes"),
        path,
        "Take packages out of the transform's `requirements`: the model itself goes to S3 if it is too large.",
    )
    yield Count(
        Quota("package sent directly", package.name, unzipped, DIRECT_ZIP_BYTES, "bytes"),
        path,
        "Weights hardly compress: if the zip is still too large, it is uploaded through S3.",
        hard=False,
    )


def _of_disk(served: ServedVersion) -> Count:
    version = served.version
    allowed = version.ephemeral_storage_mb * MB
    needed_mb = math.ceil(served.size_bytes / MB)
    path = ("models", version.model, "versions", version.name)
    remedy = f"Set `ephemeral_storage_mb` to {needed_mb} or more."
    if needed_mb > MOST_DISK_MB:
        remedy = f"Lambda has at most {MOST_DISK_MB:,} MB of /tmp: make the model smaller, or quantize it."
    elif version.warm.snap_start:
        remedy = (
            f"With `snap_start` /tmp has {SNAP_START_DISK_MB} MB. Delete `snap_start` and set `ephemeral_storage_mb` "
            f"to {needed_mb} or more, or make the model smaller."
        )
    return Count(
        Quota("model fetched to /tmp", f"{version.model} {version.name}", served.size_bytes, allowed, "bytes"),
        ("pools", version.pool) if version.pool else (*path, "ephemeral_storage_mb"),
        remedy,
    )


def _of_payload(served: ServedVersion) -> Iterator[Count]:
    subject = f"{served.version.model} {served.version.name}"
    path = ("models", served.version.model, "versions", served.version.name)
    payload = estimate_payload(served.signature)
    fits = payload.binary_bytes <= LARGEST_EVENT_BYTES
    yield Count(
        Quota("smallest request as JSON", subject, payload.json_bytes, LARGEST_EVENT_BYTES, "bytes"),
        path,
        "Send its tensors in binary format." if fits else "API Gateway cannot carry it.",
        hard=False,
    )
    yield Count(
        Quota("smallest request in binary", subject, payload.binary_bytes, LARGEST_EVENT_BYTES, "bytes"),
        path,
        "API Gateway cannot transfer it: use smaller tensors, or a smaller datatype such as UINT8.",
        hard=False,
    )
