"""The frozen values of a manifest: models, versions, stages and their settings.

turnout.manifest makes them; all other rooms use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from turnout.manifest.access import Consumer, Cors, Domain
from turnout.manifest.judgement import Judgement
from turnout.manifest.settings import Settings, Slo
from turnout.manifest.version_source import VersionSource
from turnout.problems import Problem
from turnout.protocol.routing.graph_nodes import Node
from turnout.protocol.routing.sticky import Sticky
from turnout.protocol.tensors.image_input import ImageInput
from turnout.runtimes.registry import DEFAULT_RUNTIME
from turnout.yaml_text.reader import KeyPath, Position, YamlSource, nearest_position, problem_at

NEWEST = "newest"
"""`"*": newest` in a stage's `serve`: every model not named serves the last version listed."""


@dataclass(frozen=True, slots=True)
class DeclaredTensor:
    """A tensor declared in models.yaml.

    Args:
        name: its name.
        datatype: its datatype.
        shape: its dimensions, -1 for free ones.
        content: `image` for files of images, or empty.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: str = ""


@dataclass(frozen=True, slots=True)
class DeclaredSignature:
    """The declared inputs and outputs of a version whose files do not contain them."""

    inputs: tuple[DeclaredTensor, ...]
    outputs: tuple[DeclaredTensor, ...]


@dataclass(frozen=True, slots=True)
class Version(Settings):
    """One immutable artifact of a model, with the settings of its function, including the defaults.

    Args:
        model: the model's name.
        name: the version's name.
        artifact: as written: a path relative to the manifest, or `s3://bucket/key`.
        sha256: the pinned digest, or empty.
        kms_key_arn: the key that encrypts the artifact's bucket, or empty.
        pool: the pool whose function it shares, or empty if it has its own function.
        transform: path of the Python file with `preprocess` / `postprocess`, or empty.
        requirements: the packages that its own Python imports, PEP 508; they are part of the layer.
        image: how images become the graph's input, or None.
        inputs: what clients send, if the transform or `image` changes it; empty for the graph's inputs.
        outputs: what clients get, if the transform changes it; empty for the graph's outputs.
        examples: path of the JSON file with requests and expected outputs, or empty.
        breaking: whether the version may replace one with an incompatible signature.
        description: shown in the catalogue.
        runtime: a key of `turnout.runtimes.registry.RUNTIMES`.
        signature: its inputs and outputs, if its runtime requires them to be declared; else None.
        source: its origin, or None.
    """

    model: str
    name: str
    artifact: str
    sha256: str = ""
    kms_key_arn: str = ""
    pool: str = ""
    transform: str = ""
    image: ImageInput | None = None
    inputs: tuple[DeclaredTensor, ...] = ()
    outputs: tuple[DeclaredTensor, ...] = ()
    requirements: tuple[str, ...] = ()
    examples: str = ""
    breaking: bool = False
    description: str = ""
    runtime: str = DEFAULT_RUNTIME
    signature: DeclaredSignature | None = None
    source: VersionSource | None = None

    @property
    def settings(self) -> Settings:
        """The settings for its function, unchanged."""
        return Settings(**{key.name: getattr(self, key.name) for key in fields(Settings)})

    @property
    def is_remote(self) -> bool:
        """Whether the artifact is in S3 and not on this machine."""
        return self.artifact.startswith("s3://")


@dataclass(frozen=True, slots=True)
class Routing:
    """The settings that need the model's router. None, empty strings and 0 mean that a setting is not used."""

    sticky: Sticky | None = None
    shadow_version: str = ""
    shadow_percent: float = 0.0
    fallback: str = ""

    def __bool__(self) -> bool:
        """Whether anything needs the router."""
        return bool(self.sticky or self.shadow_version or self.fallback)


@dataclass(frozen=True, slots=True)
class Model:
    """A served model: its versions in the order of the file, the newest last; or a graph, without versions."""

    name: str
    versions: tuple[Version, ...]
    description: str = ""
    routing: Routing = Routing()
    graph: Node | None = None
    is_direct: bool = False

    def version(self, name: str) -> Version:
        """Return the version with this name; raise KeyError if there is none."""
        for version in self.versions:
            if version.name == name:
                return version
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Canary:
    """A stage's canary: `percent` of its traffic, 0-100, is answered by `serve` instead of the baseline's versions."""

    percent: float
    serve: Mapping[str, str]
    release: bool = False
    judgement: Judgement = field(default_factory=Judgement)


@dataclass(frozen=True, slots=True)
class RoutedCanary:
    """The canary of one model whose router splits the traffic, independently of the stage's own canary.

    Args:
        version: the version that its share gets.
        percent: share of the model's requests, 0-100.
        baseline: version -> percent of the other requests.
        is_weighted: whether models.yaml has the baseline under `weights`, not under `serve`.
        judgement: how it is judged.
    """

    version: str
    percent: float
    baseline: Mapping[str, float]
    is_weighted: bool = False
    judgement: Judgement = field(default_factory=Judgement)

    @property
    def weights(self) -> dict[str, float]:
        """Return the weights by which the model's router chooses, including the canary's."""
        rest = (100 - self.percent) / 100
        shares = {version: round(share * rest, 6) for version, share in self.baseline.items()}
        return {**shares, self.version: self.percent}


@dataclass(frozen=True, slots=True)
class Jwt:
    """The tokens that a stage accepts: their `iss` and their allowed `aud` values.

    `jwks` is the path of a file with the issuer's keys for the local gateway; if it is empty, the gateway asks the
    issuer.
    """

    issuer: str
    audience: tuple[str, ...]
    jwks: str = ""


@dataclass(frozen=True, slots=True)
class Throttle:
    """The limits of a whole stage: requests per second, and a burst."""

    rate: float
    burst: int


@dataclass(frozen=True, slots=True)
class Asynchronous:
    """A stage's settings for asynchronous requests.

    Args:
        time_to_live_s: how long a request may wait to start, and how long its answer is kept.
        max_attempts: number of runs after which a request has failed.
        max_body_mb: size of the largest body and the largest answer.
        max_stored_mb: size of all bodies and answers that `turnout serve` keeps.
        callback_hosts: allowed hosts for webhooks, `host` or `host:port`.
        allow_private_callbacks: whether those hosts may have private addresses.
    """

    time_to_live_s: int = 86_400
    max_attempts: int = 3
    max_body_mb: int = 1024
    max_stored_mb: int = 10_240
    callback_hosts: tuple[str, ...] = ()
    allow_private_callbacks: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. `serve` names every model that has versions and no entry in `weights` (`"*": newest` is spelled out).

    A model with a routed canary is in `weights`, with the canary's share among its versions.

    Args:
        name: the first segment of the stage's paths.
        serve: model name -> version name.
        weights: model name -> version name -> percent; they add up to 100.
        canary: the stage's canary, or `None`.
        routed: model -> its routed canary.
        auth: a key of `turnout.plan.auth.AUTH_TYPES`.
        throttle: the stage's throttle, or `None`.
        version_override: whether the header `x-turnout-version` may choose among a routed model's versions.
        slo: the stage's service level objective.
        jwt: the issuer and audience of `auth: jwt`, or None.
        asynchronous: settings of asynchronous requests; None if the stage accepts none.
        newest: the models of `serve` that `"*": newest` covers.
        cors: the web pages that may call it from a browser, or None.
        consumers: the named callers of `auth: api_key`.
    """

    name: str
    serve: Mapping[str, str]
    weights: Mapping[str, Mapping[str, float]]
    canary: Canary | None = None
    auth: str = "none"
    throttle: Throttle | None = None
    version_override: bool = False
    slo: Slo = field(default_factory=Slo)
    jwt: Jwt | None = None
    asynchronous: Asynchronous | None = None
    newest: frozenset[str] = field(default=frozenset(), compare=False)  # `serve` holds the resolved versions
    cors: Cors | None = None
    consumers: tuple[Consumer, ...] = ()
    routed: Mapping[str, RoutedCanary] = field(default_factory=dict)

    def with_canary_of(self, model: str) -> Stage:
        """Return the stage with a model's routed canary as its only canary, and with the model's own baseline."""
        routed = self.routed[model]
        serve, weights = dict(self.serve), dict(self.weights)
        if routed.is_weighted:
            weights[model] = routed.baseline
        else:
            del weights[model]
            serve[model] = next(iter(routed.baseline))
        canary = Canary(routed.percent, {model: routed.version}, judgement=routed.judgement)
        return replace(self, serve=serve, weights=weights, canary=canary, routed={})


@dataclass(frozen=True, slots=True)
class AccountQuotas:
    """The account's quotas on AWS: those that can be raised or are lower for new accounts.

    Args:
        resources: resources of an API.
        stages: stages of an API.
        code_storage_gb: size of the versions of all functions and layers.
        concurrency: calls that run at once; None if not set.
        memory_mb: memory of a function; None if not set.
        integration_timeout_s: time after which API Gateway ends a request.
    """

    resources: int = 300
    stages: int = 10
    code_storage_gb: int = 75
    concurrency: int | None = None
    memory_mb: int | None = None
    integration_timeout_s: int = 29


@dataclass(frozen=True, slots=True)
class Prices:
    """AWS's prices, US dollars: list prices in us-east-1, without the free tier (docs/prices.md has the date).

    Args:
        api_gateway_million: a million requests of a REST API.
        lambda_million: a million calls of functions.
        lambda_arm64_gb_s: a GB-second of a running function.
        lambda_x86_64_gb_s: the same on x86_64.
        provisioned_arm64_gb_s: a GB-second of provisioned concurrency, all day.
        provisioned_x86_64_gb_s: the same for x86_64.
        snap_start_gb_s: a GB-second of a kept snapshot.
        log_gb: a GB written to CloudWatch Logs.
        alarm_month: a month of one metric that an alarm compares.
        dashboard_month: a month of a dashboard.
        s3_gb_month: a month of a GB in S3.
        s3_put_million: a million objects written to S3.
        s3_get_million: a million objects read from S3.
        sqs_million: a million calls of SQS.
    """

    api_gateway_million: float = 3.50
    lambda_million: float = 0.20
    lambda_arm64_gb_s: float = 0.0000133334
    lambda_x86_64_gb_s: float = 0.0000166667
    provisioned_arm64_gb_s: float = 0.0000033334
    provisioned_x86_64_gb_s: float = 0.0000041667
    snap_start_gb_s: float = 0.0000015046
    log_gb: float = 0.50
    alarm_month: float = 0.10
    dashboard_month: float = 3.00
    s3_gb_month: float = 0.023
    s3_put_million: float = 5.00
    s3_get_million: float = 0.40
    sqs_million: float = 0.40


@dataclass(frozen=True, slots=True)
class Budget:
    """The project's budget in US dollars; an amount that is not set is None.

    Args:
        month: a month without calls.
        million_calls: a million calls of any version.
    """

    month: float | None = None
    million_calls: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole file, validated.

    Args:
        platform: prefix of every AWS name.
        models: in the file's order.
        stages: in the file's order; the first one answers paths that name no stage.
        path: the file, absolute; artifacts are relative to its folder.
        source: the file's name as the user wrote it, for messages.
        positions: key path -> its position, for problems that are detected later (`position_of` returns the nearest
            one).
        open_inference: `proxy`, `direct` or `off`: how AWS serves the Open Inference Protocol's paths.
        routes: `auto`, `direct` or `shared`: how AWS reaches versions by `/models/...`.
        judgement: `defaults.canary`: how a canary is judged in a stage without its own rules.
        quotas: what AWS allows the account.
        prices: what AWS charges.
        domain: the host name of all stages, or None.
        budget: what the project may cost, or None.
        default_architecture: architecture of versions that specify none.
        read: the file's text and keys, which edits start from; None for a manifest that was not read from a file.
    """

    platform: str
    models: tuple[Model, ...]
    stages: tuple[Stage, ...]
    path: Path
    source: str
    positions: Mapping[KeyPath, Position]
    open_inference: str = "proxy"
    routes: str = "auto"
    judgement: Judgement = field(default_factory=Judgement)
    quotas: AccountQuotas = AccountQuotas()
    prices: Prices = Prices()
    domain: Domain | None = None
    budget: Budget | None = None
    default_architecture: str = "arm64"
    read: YamlSource | None = field(default=None, compare=False, repr=False)
    _by_name: Mapping[str, Model] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {model.name: model for model in self.models})

    @property
    def versions(self) -> tuple[Version, ...]:
        """Every version of every model, in the file's order."""
        return tuple(version for model in self.models for version in model.versions)

    def model(self, name: str) -> Model:
        """Return the model with this name; KeyError if there is none."""
        return self._by_name[name]

    def stage(self, name: str) -> Stage:
        """Return the stage with this name; KeyError if there is none."""
        return {stage.name: stage for stage in self.stages}[name]

    def position_of(self, path: KeyPath) -> Position:
        """Return the position of `path`, or of its nearest ancestor in the file."""
        return nearest_position(self.positions, path)

    def problem(self, path: KeyPath, message: str, hint: str = "") -> Problem:
        """Return a problem at `path`, with the position of the key or of its nearest ancestor in the file."""
        return problem_at(self.positions, self.source, path, message, hint)
