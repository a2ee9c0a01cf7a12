"""One reading of a project's files, with everything that is made from them once for all workers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnout.gateway.api.asynchronous import AsyncRequests
from turnout.gateway.api.authorizing import CallerChecks
from turnout.gateway.api.exchange import Observer, Tracer
from turnout.gateway.api.gateway import Front, Gateway, RestApi
from turnout.gateway.api.proxy_event import Endpoint
from turnout.gateway.editions.api_keys import load_api_keys
from turnout.gateway.editions.consumer_keys import read_consumer_keys
from turnout.gateway.editions.signing_keys import load_signing_key
from turnout.gateway.functions.invocation import ACCOUNT_ID, REGION, Invocable
from turnout.gateway.rules.authorize import ApiKey
from turnout.gateway.rules.shared_routes import SharedRoutes
from turnout.gateway.rules.stages import BucketOf, own_bucket, stage_settings
from turnout.gateway.rules.stored_tables import find_tables_folder, store_tables
from turnout.gateway.rules.tokens import is_installed, keys_of_file, keys_of_issuer
from turnout.http_server.messages import Handler
from turnout.manifest.access import Consumer
from turnout.openapi.document import build_document, lambda_uri, render_document
from turnout.plan.planner import make_plan
from turnout.plan.values import Function, Plan
from turnout.project.project import CACHE_DIR, Project
from turnout.protocol.aws.callers import OWNER
from turnout.protocol.routing.choice_tables import FindTable, open_folder

FileStamp = tuple[int, int, int]
"""Size, time of the last change in ns, inode: shows whether a file was replaced or changed."""


@dataclass(frozen=True, slots=True)
class FunctionFingerprint:
    """What identifies a function's content.

    Args:
        digest: digest of its plan, its artifact, its transform and the files next to it: equal for equal functions.
        stamps: stamps of its files when they were read.
        contents: digests of those files whose content is checked nowhere else; sessions check their model's.
    """

    digest: str
    stamps: tuple[tuple[Path, FileStamp], ...]
    contents: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Edition:
    """Everything from which workers serve.

    Args:
        project: the manifest and its artifacts.
        plan: the project's plan.
        apis: the documents and the stages as planned.
        keys: stage name -> API key, for stages that require one.
        fingerprints: function name -> its fingerprint, for functions whose artifact is on this machine.
    """

    project: Project
    plan: Plan
    apis: tuple[RestApi, ...]
    keys: Mapping[str, str]
    fingerprints: Mapping[str, FunctionFingerprint]
    consumer_keys: Mapping[str, tuple[ApiKey, ...]] = field(default_factory=dict)

    @property
    def documents(self) -> dict[str, Mapping[str, Any]]:
        """Return the name of an API -> its document."""
        return {api.name: rest.document for api, rest in zip(self.plan.apis, self.apis, strict=True)}

    @property
    def api_keys(self) -> dict[str, tuple[ApiKey, ...]]:
        """Return stage name -> its keys, in the gateway's format."""
        return make_api_keys(self.keys, self.consumer_keys)


def make_edition(project: Project) -> Edition:
    """Make an edition of the project's files; make API keys for new stages, and store tables of choices.

    Raises:
        ProblemsError: the plan or the API keys cannot be used.
    """
    plan = make_local_plan(project)
    fingerprints = {
        function.name: fingerprint_of(project, function)
        for function in plan.unpooled_functions
        if (function.model, function.version) in project.artifacts
    }
    keys = load_keys(project, plan)
    store_tables(find_tables_folder(project.manifest.path.parent / CACHE_DIR), plan.tables)
    return Edition(project, plan, make_apis(project, plan), keys, fingerprints, load_consumer_keys(project))


def make_local_plan(project: Project) -> Plan:
    """Make the plan for this machine, where quotas that only AWS enforces are notes."""
    return make_plan(project.manifest, project.artifacts, enforce=False)


def make_apis(project: Project, plan: Plan) -> tuple[RestApi, ...]:
    """Return the plan's documents, each with the stages that it serves."""
    apis = []
    examples = project.first_requests
    for api in plan.apis:
        document = build_document(plan, api, lambda_uri("aws", REGION, ACCOUNT_ID), examples=examples)
        api_id = _digest(api.name.encode(), 10)
        deployment_id = _digest(render_document(document), 6)
        stages = tuple(stage_settings(stage, api_id, deployment_id) for stage in api.stages)
        apis.append(RestApi(api_id, document, stages))
    return tuple(apis)


def load_keys(project: Project, plan: Plan) -> dict[str, str]:
    """Return the API keys of the stages that require one; missing keys are made."""
    stages = [stage.name for api in plan.apis for stage in api.stages if stage.auth == "api_key"]
    return load_api_keys(project.manifest.path.parent / ".turnout" / "api_keys.json", stages)


def load_consumer_keys(project: Project) -> dict[str, tuple[ApiKey, ...]]:
    """Return the consumers' keys of each stage that has consumers, if they were made on this machine."""
    stages = [stage for stage in project.manifest.stages if stage.consumers]
    kept = read_consumer_keys(project.manifest.path.parent / CACHE_DIR) if stages else {}
    return {
        stage.name: tuple(
            ApiKey(_digest(known.digest.encode(), 10), "", known.digest, consumer)
            for consumer in stage.consumers
            for key in consumer.keys
            if (known := kept.get((stage.name, consumer.name, key))) is not None
        )
        for stage in stages
    }


def build_gateway(
    project: Project,
    plan: Plan,
    functions: Invocable,
    *,
    apis: tuple[RestApi, ...] | None = None,
    stage: str = "",
    keys: Mapping[str, str] | None = None,
    consumer_keys: Mapping[str, tuple[ApiKey, ...]] | None = None,
    port: int = 80,
    observers: Sequence[Observer] = (),
    bucket_of: BucketOf = own_bucket,
    services: Mapping[str, Handler] | None = None,
    replay_token: str = "",
    front: Front | None = None,
    tracer: Tracer | None = None,
    checks: CallerChecks | None = None,
    requests: AsyncRequests | None = None,
    shortens_shared_routes: bool = True,
) -> Gateway:
    """Make the whole API without sockets.

    Args:
        project: the manifest and its artifacts.
        plan: the project's plan.
        functions: runs the plan's functions; the caller closes it.
        apis: the plan's documents, if they were made already.
        stage: the stage for paths that name none; empty for the manifest's first.
        keys: stage -> API key, for stages that require one.
        consumer_keys: stage -> the keys of its consumers, for stages that have some.
        port: the port in events.
        observers: called after each request, in this order.
        bucket_of: makes a throttle's counter.
        services: handlers besides the API, by the first segment of their paths.
        replay_token: identifies replayed requests; empty for none.
        front: answers browsers that request `/`; None leaves them to the stages.
        tracer: traces requests, or None.
        checks: checks of signatures and tokens; None makes those of the project.
        requests: accepts asynchronous requests; None accepts none.
        shortens_shared_routes: whether calls through a route that models share skip the general router.

    Raises:
        DocumentError: a document uses an unsupported feature.
        ValueError: the stage does not exist.
    """
    return Gateway(
        make_apis(project, plan) if apis is None else apis,
        functions,
        default_stage=stage or project.manifest.stages[0].name,
        endpoint=Endpoint(account_id=ACCOUNT_ID, port=port),
        api_keys=make_api_keys(keys or {}, consumer_keys or {}),
        observers=observers,
        bucket_of=bucket_of,
        services=services,
        replay_token=replay_token,
        front=front,
        tracer=tracer,
        checks=make_checks(project) if checks is None else checks,
        domain=project.manifest.domain,
        requests=requests,
        shared_routes=find_shared_routes(plan) if shortens_shared_routes else None,
        tables=open_tables(project, plan),
    )


def open_tables(project: Project, plan: Plan) -> FindTable:
    """Return what finds the tables of choices that stages name: the plan's, and those in the project's folder."""
    return open_folder(find_tables_folder(project.manifest.path.parent / CACHE_DIR), plan.tables)


def make_checks(project: Project) -> CallerChecks:
    """Make the checks of callers for stages with `auth: iam` and `auth: jwt`."""
    folder, stages = project.manifest.path.parent, project.manifest.stages
    signing = (
        dict([load_signing_key(folder / CACHE_DIR)]) if any(candidate.auth == "iam" for candidate in stages) else {}
    )
    tokens = {}
    for jwt in (candidate.jwt for candidate in stages if candidate.jwt is not None and is_installed()):
        tokens[jwt.issuer] = keys_of_file(folder / jwt.jwks) if jwt.jwks else keys_of_issuer(jwt.issuer)
    return CallerChecks(signing, tokens)


def find_shared_routes(plan: Plan) -> SharedRoutes | None:
    """Return what lets calls skip the general router; None if no call uses it."""
    if not plan.shared:
        return None
    return SharedRoutes([function.name for function in plan.unpooled_functions if function.model in plan.shared])


def make_api_keys(
    keys: Mapping[str, str], consumers: Mapping[str, tuple[ApiKey, ...]] | None = None
) -> dict[str, tuple[ApiKey, ...]]:
    """Return stage name -> its keys, in the gateway's format, with the ids that they would have.

    If a stage has consumers, its own key also has a name, `owner`.
    """
    consumers = consumers or {}
    return {
        name: (
            ApiKey(_digest(key.encode(), 10), key, consumer=Consumer(OWNER) if name in consumers else None),
            *consumers.get(name, ()),
        )
        for name, key in keys.items()
    }


class FileChangedError(Exception):
    """A file has changed since it was read; the message names it."""


def check_files(fingerprints: Mapping[str, FunctionFingerprint], function: Function) -> None:
    """Raise a FileChangedError if the content of the function's files has changed.

    A new modification time alone does not matter.

    Otherwise another content, perhaps a half-written file, would be served under a version's name.
    """
    for file, digest in fingerprints[function.name].contents:
        if _digest(_content(file), 64) != digest:
            raise FileChangedError(
                f"{file.name} has changed since models.yaml was read: reload with SIGHUP, a restart or --watch"
            )


def fingerprint_of(project: Project, function: Function) -> FunctionFingerprint:
    """Return the fingerprint of a function whose artifact is on this machine."""
    version = project.manifest.model(function.model).version(function.version)
    artifact = project.artifacts[function.model, function.version]
    files = [artifact.path, *artifact.external_files]
    beside = project.transforms.get((function.model, function.version), {})
    files += beside.values()
    contents = tuple((path, _digest(_content(path), 64)) for path in beside.values())
    lines = [f"{name} {digest}" for name, (_, digest) in zip(beside, contents, strict=True)]
    declared = repr((version.inputs, version.outputs, version.runtime, version.signature, version.image))
    text = "\n".join((repr(function), artifact.sha256, str(artifact.path), version.transform, declared, *lines))
    return FunctionFingerprint(_digest(text.encode(), 32), stamps_of(files), contents)


def stamps_of(files: Iterable[Path]) -> tuple[tuple[Path, FileStamp], ...]:
    """Return the current stamps of files."""
    return tuple((file, stamp_of(file)) for file in files)


def stamp_of(file: Path) -> FileStamp:
    """Return the current stamp of one file; zeros if it does not exist."""
    try:
        status = os.stat(file)  # noqa: PTH116 - Path.stat takes twice as long, and a watch checks thousands of files
    except OSError:
        return 0, 0, 0
    return status.st_size, status.st_mtime_ns, status.st_ino


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _digest(data: bytes, length: int) -> str:
    """Return a short id, the same for the same data."""
    return hashlib.sha256(data).hexdigest()[:length]
