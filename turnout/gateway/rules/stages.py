"""The current variables, canary and throttle of each stage, and the targets of its routes.

All of it is one `Snapshot`, replaced by one assignment, so that a request sees either the old or the new state
completely. Variables are substituted into the integrations when a snapshot is made, not for each request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.gateway.rules.authorize import ApiKeys
from turnout.gateway.rules.caller_limits import CallerLimits
from turnout.gateway.rules.document import ApiDocument, Operation
from turnout.gateway.rules.throttle import Bucket, TokenBucket
from turnout.manifest.parser import Throttle
from turnout.plan.values import StagePlan
from turnout.protocol.routing.choice_tables import FindTable, TableError, no_tables
from turnout.protocol.routing.packed_choices import find_choice

BucketOf = Callable[[str, Throttle], Bucket]
"""Makes a stage's counter from its name and its throttle."""

_VARIABLE = re.compile(r"\$\{stageVariables\.([A-Za-z0-9_]+)\}")
_FUNCTION = re.compile(r"(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<alias>[A-Za-z0-9$_-]{1,128}))?")


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """The share of a stage that uses the overrides.

    Args:
        percent: 0-100, possibly with a fraction.
        overrides: merged over the stage's variables; may add new ones.
        deployment_id: the canary's deployment, possibly the stage's own.
        use_stage_cache: stored and returned; there is no cache here.
    """

    percent: float
    overrides: Mapping[str, str]
    deployment_id: str
    use_stage_cache: bool = False


@dataclass(frozen=True, slots=True)
class StageRecord:
    """The part of a stage that the control plane stores and that affects no request.

    Args:
        description: the description, or empty.
        is_traced: whether X-Ray would trace it.
        updated_s: when it was last changed, in seconds since 1970; 0 if it is as planned.
    """

    description: str = ""
    is_traced: bool = False
    updated_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment of an API that was made through the control plane; here all of them run the same code and routes.

    Args:
        id: six letters and digits.
        api: the id of its API.
        created_s: seconds since 1970.
        description: the description, or empty.
    """

    id: str
    api: str
    created_s: float
    description: str = ""


@dataclass(frozen=True, slots=True)
class StageSettings:
    """One stage as the control plane sees it.

    Args:
        name: the first segment of its paths.
        api: the id of the API that it belongs to.
        deployment_id: the API's deployment that it serves.
        variables: the routing table.
        canary: the canary, or None.
        throttle: for the whole stage, or None.
        record: other data that the control plane stores.
    """

    name: str
    api: str
    deployment_id: str
    variables: Mapping[str, str]
    canary: CanarySettings | None = None
    throttle: Throttle | None = None
    record: StageRecord = StageRecord()


def own_bucket(stage: str, throttle: Throttle) -> Bucket:  # noqa: ARG001 - in a single process the name is not needed
    """Return a counter for this process only."""
    return TokenBucket(throttle)


def stage_settings(stage: StagePlan, api: str, deployment_id: str) -> StageSettings:
    """Return the settings that a plan gives a stage; its canary starts on the stage's own deployment."""
    canary = stage.canary
    return StageSettings(
        stage.name,
        api,
        deployment_id,
        dict(stage.variables),
        None if canary is None else CanarySettings(canary.percent, dict(canary.overrides), deployment_id),
        stage.throttle,
    )


@dataclass(frozen=True, slots=True)
class FunctionTarget:
    """The target of a route in one share.

    Args:
        function: the function's name.
        alias: the Lambda alias, empty for none.
        timeout_s: the integration's timeout.
        problem: why it cannot be invoked, or empty; AWS returns 500.
    """

    function: str
    alias: str
    timeout_s: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DirectCall:
    """A function that is called instead of the general router, and the resource of its own route."""

    target: FunctionTarget
    resource: str


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """The baseline of a stage, or its canary.

    Args:
        is_canary: whether it is the canary.
        deployment_id: the deployment in events.
        variables: the effective variables, None if there are none.
        targets: by `Operation.index`.
        contexts: by `Operation.index`, the common parts of a route's events; filled at its first call.
        behind: by model and version, what is behind routes that models share; filled in the same way.
        tables: finds the table of choices that the variables name.
    """

    is_canary: bool
    deployment_id: str
    variables: Mapping[str, str] | None
    targets: tuple[FunctionTarget, ...]
    contexts: dict[int, dict[str, Any]] = field(default_factory=dict)
    behind: dict[tuple[str, str], DirectCall] = field(default_factory=dict)
    tables: FindTable = no_tables

    def choice_of(self, variable: str) -> str:
        """Return the version that it serves of a model, by the model's stage variable.

        The result is empty if it serves none, or if its table cannot be read, which the general router reports.
        """
        try:
            return find_choice(self.variables or {}, variable, self.tables)
        except TableError:
            return ""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledStage:
    """One compiled stage; `bucket` is its throttle, None for none; `limits` are those of its consumers' keys by id."""

    settings: StageSettings
    document: ApiDocument
    keys: ApiKeys
    baseline: Share
    canary: Share | None
    percent: float
    bucket: Bucket | None
    limits: Mapping[str, CallerLimits] = field(default_factory=dict)

    def share(self, random: Callable[[], float]) -> Share:
        """Return the share of one request: an independent random choice each time; callers do not keep a share."""
        canary = self.canary
        if canary is None or random() * 100 >= self.percent:
            return self.baseline
        return canary


Match = tuple[Operation, Mapping[str, str] | None]
"""An operation, and the parameters of its path; None if it has none."""

DirectPath = tuple[CompiledStage, str, Mapping[str, Match]]
"""A stage, the path within it, and what is there by method."""

MOST_LEARNED = 10_000
LONGEST_LEARNED = 200
MOST_METHODS = 16
"""Limits on learned paths: their number, their length and their methods, because clients can make up any."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """All stages at one time; `default` serves paths that name none.

    Args:
        stages: stages by name.
        default: the default stage, or None.
        direct: raw path -> its result, for every path that is a route without parameters: what `locate` and the routes
            would find, without a search.
        learned: the same for paths that were called and have parameters, such as those of shared routes.
    """

    stages: Mapping[str, CompiledStage]
    default: CompiledStage | None
    direct: Mapping[str, DirectPath]
    learned: dict[str, tuple[CompiledStage, str, dict[str, Match]]] = field(default_factory=dict)

    def find(self, path: str) -> DirectPath | None:
        """Return what is known about a raw path without a search."""
        return self.direct.get(path) or self.learned.get(path)

    def learn(self, path: str, stage: CompiledStage, inner: str, method: str, match: Match) -> None:
        """Remember the match of a raw path, so that `find` returns it without a search."""
        if len(path) > LONGEST_LEARNED or path in self.direct:
            return
        known = self.learned.get(path)
        if known is None:
            if len(self.learned) >= MOST_LEARNED:
                self.learned.clear()
            known = self.learned[path] = stage, inner, {}
        if len(known[2]) < MOST_METHODS:
            known[2][method] = match

    def locate(self, path: str) -> tuple[CompiledStage | None, str, str]:
        """Return the stage of a raw path, the path within the stage, and the path in `requestContext`.

        Recorded from AWS: slashes before the stage are removed everywhere, slashes after it only from the path.
        """
        if path.startswith("//"):
            path = "/" + path.lstrip("/")
        end = path.find("/", 1)
        if end < 0:
            stage, inner = self.stages.get(path[1:]), "/"
        else:
            stage, inner = self.stages.get(path[1:end]), path[end:]
        if stage is None:
            return self.default, path, path
        return stage, "/" + inner.lstrip("/") if inner.startswith("//") else inner, path


class Stages:
    """The current snapshot, which can be replaced.

    Args:
        documents: API id -> its compiled document.
        keys: stage name -> its API keys; a stage without an entry has none.
        settings: the stages to start with.
        default: the stage for paths that name none; empty for none.
        bucket_of: makes a throttle's counter, given the stage's name.
        tables: finds the tables of choices that stages name.
    """

    __slots__ = ("_bucket_of", "_default", "_documents", "_keys", "_tables", "snapshot")

    def __init__(
        self,
        documents: Mapping[str, ApiDocument],
        settings: Iterable[StageSettings],
        *,
        keys: Mapping[str, ApiKeys] | None = None,
        default: str = "",
        bucket_of: BucketOf = own_bucket,
        tables: FindTable = no_tables,
    ) -> None:
        self._documents = documents
        self._tables = tables
        self._keys = keys or {}
        self._default = default
        self._bucket_of = bucket_of
        self.snapshot = Snapshot({}, None, {})
        self.replace(settings)

    @property
    def settings(self) -> tuple[StageSettings, ...]:
        """Return the current settings of every stage."""
        return tuple(stage.settings for stage in self.snapshot.stages.values())

    def replace(self, settings: Iterable[StageSettings], keys: Mapping[str, ApiKeys] | None = None) -> None:
        """Set the stages. What did not change (a throttle's count, compiled targets) is carried over.

        Args:
            settings: every stage.
            keys: stage name -> its API keys; None leaves them unchanged.

        Raises:
            ValueError: two stages have the same name, an API is unknown, or the default stage does not exist.
        """
        if keys is not None:
            self._keys = keys
        old = self.snapshot.stages
        stages: dict[str, CompiledStage] = {}
        for stage in settings:
            if stage.name in stages:
                raise ValueError(f"stage {stage.name!r} is defined twice")
            stages[stage.name] = self._compile(stage, old.get(stage.name))
        if self._default and self._default not in stages:
            raise ValueError(f"no stage {self._default!r}; the stages are {', '.join(stages)}")
        default_stage = stages.get(self._default)
        self.snapshot = Snapshot(stages, default_stage, _direct_paths(stages, default_stage))

    def update(self, settings: StageSettings) -> None:
        """Replace the stage with this name."""
        self.replace(settings if stage.name == settings.name else stage for stage in self.settings)

    def _compile(self, settings: StageSettings, old: CompiledStage | None) -> CompiledStage:
        document = self._documents.get(settings.api)
        if document is None:
            raise ValueError(f"stage {settings.name!r}: no API {settings.api!r}")
        known = [] if old is None or old.document is not document else [old.baseline, old.canary]
        canary = settings.canary
        bucket = None
        if settings.throttle is not None:
            is_kept = old is not None and old.settings.throttle == settings.throttle
            bucket = old.bucket if old is not None and is_kept else self._bucket_of(settings.name, settings.throttle)
        keys = self._keys.get(settings.name) or ApiKeys(())
        return CompiledStage(
            settings,
            document,
            keys,
            _share(document, known, settings.variables, settings.deployment_id, self._tables, is_canary=False),
            None
            if canary is None
            else _share(
                document,
                known,
                {**settings.variables, **canary.overrides},
                canary.deployment_id,
                self._tables,
                is_canary=True,
            ),
            0.0 if canary is None else canary.percent,
            bucket,
            self._limits_of(settings.name, keys, {} if old is None else old.limits),
        )

    def _limits_of(self, stage: str, keys: ApiKeys, old: Mapping[str, CallerLimits]) -> dict[str, CallerLimits]:
        """Return the limits of the consumers' keys; unchanged ones keep their counts."""
        return {
            key.id: old[key.id]
            if key.id in old and old[key.id].consumer == key.consumer
            else CallerLimits(stage, key, self._bucket_of)
            for key in keys.consumers
        }


def _direct_paths(stages: Mapping[str, CompiledStage], default: CompiledStage | None) -> dict[str, DirectPath]:
    direct: dict[str, DirectPath] = {}
    matches = {
        stage.document: {
            path: {method: (operation, None) for method, operation in methods.items()}
            for path, methods in stage.document.routes.static.items()
        }
        for stage in stages.values()
    }
    if default is not None:
        for path, methods in matches[default.document].items():
            if path[1:].partition("/")[0] not in stages:  # otherwise the path names that stage
                direct[path] = default, path, methods
    for name, stage in stages.items():
        for path, methods in matches[stage.document].items():
            direct[f"/{name}{path}"] = stage, path, methods
    return direct


def _share(
    document: ApiDocument,
    known: list[Share | None],
    variables: Mapping[str, str],
    deployment_id: str,
    tables: FindTable,
    *,
    is_canary: bool,
) -> Share:
    effective = dict(variables) or None
    for share in known:
        if share is not None and share.variables == effective:
            return Share(is_canary, deployment_id, effective, share.targets, tables=tables)
    targets = tuple(target_of(operation, variables) for operation in document.operations)
    return Share(is_canary, deployment_id, effective, targets, tables=tables)


def target_of(operation: Operation, variables: Mapping[str, str]) -> FunctionTarget:
    """Return the target of an operation with these variables; an undefined variable is empty text, as on AWS."""
    timeout_s = operation.timeout_ms / 1000
    undefined = [name for name in _VARIABLE.findall(operation.function) if name not in variables]
    rendered = _VARIABLE.sub(lambda match: variables.get(match[1], ""), operation.function)
    match = _FUNCTION.fullmatch(rendered)
    problem = ""
    if operation.mock is not None:
        return FunctionTarget("", "", timeout_s)
    if operation.is_misconfigured:
        problem = "the integration's httpMethod must be POST"
    elif undefined:
        problem = f"stage variable {undefined[0]!r} is not defined, so the function would be {rendered!r}"
    elif match is None:
        problem = f"{rendered!r} is not a function name"
    if match is None or problem:
        return FunctionTarget("", "", timeout_s, problem)
    return FunctionTarget(match["name"], match["alias"] or "", timeout_s)
