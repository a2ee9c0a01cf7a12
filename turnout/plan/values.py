"""The plan: everything in models.yaml as pure data, without AWS and without Pulumi."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from turnout.manifest.parser import Asynchronous, Consumer, Cors, Jwt, Node, RoutedCanary, Slo, Throttle, Version
from turnout.manifest.settings import Settings
from turnout.protocol.tensors.datatypes import Signature
from turnout.runtimes.registry import RUNTIMES

INTEGRATION_TIMEOUT_MS = 29_000
"""Timeout of every route: the function's own timeout ends its work; Lambda does not count a cold start, which needs
additional time.
"""


@dataclass(frozen=True, slots=True)
class RuntimeSizes:
    """Unzipped sizes of the other files in a model's function; estimates until the packages are built.

    Args:
        code_bytes: size of handler and protocol of a model's function.
        router_bytes: size of handler and protocol of a router.
        layer_bytes: runtime -> architecture -> size of its layer.
    """

    code_bytes: int = 300_000
    router_bytes: int = 300_000
    layer_bytes: Mapping[str, Mapping[str, int]] = field(
        default_factory=lambda: {runtime.name: runtime.layer.unzipped_bytes for runtime in RUNTIMES.values()}
    )


@dataclass(frozen=True, slots=True)
class Function:
    """One Lambda function.

    Args:
        name: `turnout-local_iris_v1`.
        kind: `model`; `pool`, which runs several versions; `router` of one model; or `general_router`, for
            everything outside a model.
        model: the model's name, or the pool's name; empty for the general router.
        version: the version's name; `pool` for a pool; empty for a router.
        package: name of its package.
        settings: the manifest's settings for a version; for a router, the settings of all routers.
        is_shadow: whether a model's router sends it copies of requests, as asynchronous calls.
    """

    name: str
    kind: str
    model: str
    version: str
    package: str
    settings: Settings
    is_shadow: bool = False

    @property
    def runs_models(self) -> bool:
        """Whether it runs a version or a pool's versions; otherwise it is a router."""
        return self.kind in {"model", "pool"}


@dataclass(frozen=True, slots=True)
class Pool:
    """A function that several versions share.

    Args:
        name: the name in models.yaml.
        function: the function's name.
        versions: model and version of each, in the file's order.
        session_bytes: bytes of the function's memory for sessions.
        sessions: model and version -> the estimated bytes of its session.
    """

    name: str
    function: str
    versions: tuple[tuple[str, str], ...]
    session_bytes: int
    sessions: Mapping[tuple[str, str], int]

    @property
    def total_bytes(self) -> int:
        """Return the bytes of all its versions' sessions together."""
        return sum(self.sessions.values())


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint of the API.

    Args:
        method: `POST`, `GET`, `PUT`, `DELETE` or `ANY`.
        path: as in API Gateway, `/models/iris/v1/inference`.
        model: its model; empty if it serves all of them.
        version: its version; empty if a stage variable chooses.
        function: the function's name with stage variables: `turnout-local_iris_${stageVariables.iris}`.
        timeout_ms: the integration's timeout, 29,000 unless AWS raised the account's quota.
        kind: `inference`, `catalogue`, `health`, `document`, `request` or `open_inference`; health needs no key or
            signature, all others need the API's authentication.
    """

    method: str
    path: str
    model: str
    version: str
    function: str
    timeout_ms: int
    kind: str = "inference"


@dataclass(frozen=True, slots=True)
class CanaryPlan:
    """A stage's canary for API Gateway: `overrides` replace the stage's variables."""

    percent: float
    overrides: Mapping[str, str]
    release: bool


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage; its variables are the routing table.

    `tables` are the tables that they name, by name, if the choices of its models do not fit into the variables.
    """

    name: str
    variables: Mapping[str, str]
    canary: CanaryPlan | None
    auth: str
    throttle: Throttle | None
    version_override: bool = False
    slo: Slo = field(default_factory=Slo)
    jwt: Jwt | None = None
    cors: Cors | None = None
    consumers: tuple[Consumer, ...] = ()
    asynchronous: Asynchronous | None = None
    routed: Mapping[str, RoutedCanary] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Api:
    """One REST API, shared by the stages with equal documents (authentication and CORS are part of the document).

    Args:
        name: `turnout-local_none`.
        auth: a key of `AUTH_TYPES`.
        routes: the same in every API of a plan.
        stages: its stages.
        jwt: the accepted tokens of `auth: jwt`, or None.
        cors: the web pages that may call its stage, or None.
        has_consumers: whether an authorizer distinguishes its stage's callers.
    """

    name: str
    auth: str
    routes: tuple[Route, ...]
    stages: tuple[StagePlan, ...]
    jwt: Jwt | None = None
    cors: Cors | None = None
    has_consumers: bool = False


@dataclass(frozen=True, slots=True)
class Package:
    """One zip: its content and unzipped size.

    Args:
        name: `iris_v1`.
        sha256: the artifact's digest.
        artifact_bytes: size of model file and external data.
        code_bytes: size of handler, protocol and transform.
        layer_bytes: size of its runtime layer, an estimate until it is built.
    """

    name: str
    sha256: str
    artifact_bytes: int
    code_bytes: int
    layer_bytes: int


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit of AWS: the used and the allowed number.

    Args:
        name: the counted item: `stage variables`.
        subject: its owner: a stage, an API, a function, a package, or `iris v1`.
        used: the used number.
        allowed: the largest allowed number.
        unit: `bytes`, `s`, `characters`, or empty for plain numbers.
        raisable: whether AWS raises it on request.
    """

    name: str
    subject: str
    used: float
    allowed: float
    unit: str = ""
    raisable: bool = False

    @property
    def share(self) -> float:
        """Return the used part of the allowed number; 1.0 is all of it."""
        return self.used / self.allowed if self.allowed else 0.0

    @property
    def exceeded(self) -> bool:
        """Return whether more is used than allowed."""
        return self.used > self.allowed


@dataclass(frozen=True, slots=True)
class Note:
    """A note for the user, such as a key without effect on this machine."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A model version and the data from its artifact, for the document and the catalogue."""

    version: Version
    sha256: str
    size_bytes: int
    signature: Signature


@dataclass(frozen=True, slots=True)
class ServedGraph:
    """A model that is a graph; its signature is empty if it is unknown."""

    model: str
    node: Node
    signature: Signature


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan in a fixed order, so equal manifests give equal plans.

    Args:
        platform: prefix of every AWS name.
        stack: Pulumi's stack, `local` for `turnout serve`.
        functions: functions on AWS: a model's versions in the file's order, except pooled ones, then its router if it
            has one; then the pools; finally the general router.
        apis: in the order of the stages.
        packages: one per function, in the order of the functions.
        versions: versions for the document and the catalogue.
        graphs: graphs for the document and the catalogue, in the file's order.
        open_inference: `proxy`, `direct` or `off`.
        resources: number of an API's resources for each choice of `open_inference`.
        shared: the models that share two routes, through the general router.
        caller_routes: if models share routes, the routes that callers see: those of every model and version.
        pools: the functions that versions share.
        pooled: the function that each pooled version would have without the pool.
        quotas: every known limit.
        notes: keys without effect on this machine, and other notes for the user.
        descriptions: model -> its description, for models that have one.
    """

    platform: str
    stack: str
    functions: tuple[Function, ...]
    apis: tuple[Api, ...]
    packages: tuple[Package, ...]
    versions: tuple[ServedVersion, ...]
    quotas: tuple[Quota, ...]
    notes: tuple[Note, ...]
    descriptions: Mapping[str, str] = field(default_factory=dict)
    graphs: tuple[ServedGraph, ...] = ()
    open_inference: str = "proxy"
    resources: Mapping[str, int] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    caller_routes: tuple[Route, ...] = ()
    pools: tuple[Pool, ...] = ()
    pooled: tuple[Function, ...] = ()

    @property
    def unpooled_functions(self) -> tuple[Function, ...]:
        """Return the functions as if no version were in a pool: `turnout serve` runs and counts by these."""
        if not self.pools:
            return self.functions
        return (*self.pooled, *(function for function in self.functions if function.kind != "pool"))

    @property
    def pool_of(self) -> dict[str, str]:
        """Return name that a pooled version's own function would have -> the pool's function."""
        pools = {key: pool.function for pool in self.pools for key in pool.versions}
        return {function.name: pools[function.model, function.version] for function in self.pooled}

    @property
    def tables(self) -> dict[str, str]:
        """Return the tables of all stages by name; none if the choices fit into stage variables."""
        return {name: text for api in self.apis for stage in api.stages for name, text in stage.tables.items()}

    @property
    def integration_timeout_s(self) -> float:
        """Return the time after which API Gateway ends a synchronous call."""
        longest = max((route.timeout_ms for api in self.apis for route in api.routes), default=INTEGRATION_TIMEOUT_MS)
        return longest / 1000

    def run_limit_s(self, function: Function) -> float:
        """Return the time limit of an asynchronous run of a function."""
        timeout_s = float(function.settings.timeout_s)
        if function.runs_models and not function.settings.asynchronous:
            return min(timeout_s, self.integration_timeout_s)
        return timeout_s

    @property
    def is_asynchronous(self) -> bool:
        """Whether a stage accepts asynchronous requests."""
        return any(stage.asynchronous is not None for api in self.apis for stage in api.stages)

    def as_called(self, api: Api) -> Api:
        """Return the same API with the routes that its callers see."""
        return replace(api, routes=self.caller_routes) if self.shared else api
