"""The subject of a console: one project, and the place where it is served."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from turnout.canary.connection import connect
from turnout.canary.observation.latest_requests import LatestRequests
from turnout.canary.observation.samples import fetch_samples
from turnout.canary.report import judgement_of, make_report, plan_for
from turnout.canary.rollout.log import RolloutLog
from turnout.canary.rollout.rollout import StageConnection
from turnout.canary.rollout.stage_canaries import find_stage
from turnout.canary.rollout.stage_control import StageControlError, StageTarget, make_client
from turnout.client.captured_lines import Sample
from turnout.client.connection import ApiConnection, UnreachableError, read_local_key
from turnout.manifest.parser import Stage
from turnout.plan.values import Plan
from turnout.problems import TurnoutError
from turnout.project.manifest_file import manifest_path
from turnout.project.project import Project, load_project
from turnout.replay.replay import replay_headers
from turnout.replay.signed_requests import Sign, make_signer
from turnout.system.service_tokens import find_token, service_headers

TIMEOUT_S = 10.0

DIFFERENCES_S = 15.0
"""How long the differences of a stage without a canary are kept: they cost a call of its control plane."""


class CannotSendError(TurnoutError):
    """The console has no key or token that the stage requires."""


@dataclass(frozen=True, slots=True)
class Sending:
    """How requests are sent again to a stage.

    Args:
        url: the stage's URL; the stage's name is the first segment of paths.
        headers: headers of each request: the replay marker, and the stage's key or token.
        sign: signs each request, or None.
    """

    url: str
    headers: Mapping[str, str]
    sign: Sign | None = None


@dataclass(slots=True)
class _Cached:
    folder: Path | None = None
    stamp: tuple[int, int] = (0, 0)
    project: Project | None = None
    plan: Plan | None = None
    connections: dict[str, StageConnection] = field(default_factory=dict)
    logged: LatestRequests | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    counters: ApiConnection | None = None
    counters_lock: threading.Lock = field(default_factory=threading.Lock)
    differences: dict[str, tuple[float, str, list[str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """One project and where it is served.

    Args:
        manifest: the file that `--manifest` names.
        target: where the stages are served.
        is_mounted: whether the page comes from the server that serves the stages, so that it can send requests.
        capture: the file to which the server's requests are captured, or None.
        api_key: sent to stages with `auth: api_key`; empty uses the one that a server on this machine wrote.
        token: sent to stages with `auth: jwt`, or empty.
        load: reads the project.
        make_client: makes a boto3 client of a service.
        connect: connects to a stage.
    """

    manifest: Path
    target: StageTarget
    is_mounted: bool = False
    capture: Path | None = None
    api_key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    load: Callable[[Path], Project] = load_project
    make_client: Callable[[str, StageTarget], Any] = make_client
    connect: Callable[..., StageConnection] = connect
    _cached: _Cached = field(default_factory=_Cached, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """The project's folder."""
        if self._cached.folder is None:
            self._cached.folder = manifest_path(self.manifest).resolve().parent
        return self._cached.folder

    @property
    def log(self) -> RolloutLog:
        """The record of its rollouts."""
        return RolloutLog(self.folder)

    def project(self) -> Project:
        """The project of the current files; read again if models.yaml has changed.

        Raises:
            ProblemsError: all problems of the project.
        """
        status = manifest_path(self.manifest).stat()
        stamp = (status.st_mtime_ns, status.st_size)
        with self._cached.lock:
            if self._cached.project is None or self._cached.stamp != stamp:
                self._cached.project = self.load(self.manifest)
                self._cached.stamp = stamp
                self._cached.plan = None
                self._cached.connections = {}
            return self._cached.project

    def connection(self, stage: Stage) -> StageConnection:
        """The connection to the stage: kept while models.yaml is unchanged, because making it requires a plan."""
        project = self.project()
        with self._cached.lock:
            if stage.name not in self._cached.connections:
                judgement = judgement_of(stage, self.target)
                self._cached.connections[stage.name] = self.connect(project, self.target, stage.name, judgement)
            return self._cached.connections[stage.name]

    def plan(self) -> Plan:
        """The project's plan, kept while models.yaml is unchanged: with 1,000 models it takes 0.2 s."""
        project = self.project()
        with self._cached.lock:
            if self._cached.plan is None:
                self._cached.plan = plan_for(project, self.target)
            return self._cached.plan

    def differences(self, stage: Stage, generation: str) -> list[str]:
        """Where models.yaml and the live stage differ, a sentence each.

        They are read again after `DIFFERENCES_S`, and for another generation.
        """
        cached = self._cached.differences
        read_s, known, sentences = cached.get(stage.name, (float("-inf"), "", []))
        if generation != known or time.monotonic() - read_s >= DIFFERENCES_S:
            try:
                connection, plan = self.connection(stage), self.plan()
                report = make_report(
                    self.project(), stage.name, self.log, target=self.target, connection=connection, plan=plan
                )
                sentences = list(report.warnings)
            except StageControlError as error:
                sentences = [error.message]
            cached[stage.name] = (time.monotonic(), generation, sentences)
        return sentences

    def samples(self, stage: str, limit: int) -> list[Sample]:
        """Return the latest requests that the server sampled for a stage's canary; they are kept for the canary's run.

        Raises:
            UnreachableError: the server does not answer.
        """
        url = self.target.endpoint_url
        return fetch_samples(url, stage, limit, find_token(self.folder, url), keep=True)

    def logged(self) -> LatestRequests:
        """The latest requests that the stack's functions logged.

        Raises:
            StageControlError: boto3 is not installed, or has no region.
        """
        with self._cached.lock:
            if self._cached.logged is None:
                client = self.make_client("logs", replace(self.target, endpoint_url=""))
                self._cached.logged = LatestRequests(client)
            return self._cached.logged

    def sending(self, name: str) -> Sending:
        """How requests are sent again to a stage, with the key, the token or the AWS credentials that it requires.

        Raises:
            CannotSendError: a stack's stage requires a key or a token, and the console was started without.
            NoCredentialsError: a stack's stage requires signed requests, and there are no credentials.
            StageControlError: the stack cannot be reached.
        """
        stage = find_stage(self.project().manifest, name)
        token = {"authorization": f"Bearer {self.token}"} if self.token and stage.auth == "jwt" else {}
        if self.target.is_local:
            url = self.target.endpoint_url
            key = self.api_key or read_local_key(url, self.folder, name)
            return Sending(url, {**replay_headers(url, key, find_token(self.folder, url)), **token})
        if stage.auth == "api_key" and not self.api_key:
            hint = "Start the console with `--api-key KEY`, or set TURNOUT_API_KEY."
            raise CannotSendError(f"Stage {name} requires an API key, and the console has none.", hint)
        if stage.auth == "jwt" and not token:
            hint = "Start the console with `--token TOKEN`, or set TURNOUT_TOKEN."
            raise CannotSendError(f"Stage {name} requires a token (`auth: jwt`), and the console has none.", hint)
        url = self.connection(stage).control.url()
        sign = None
        if stage.auth == "iam":
            region = self.make_client("apigateway", self.target).meta.region_name
            sign = make_signer(url, region)
        key = self.api_key if stage.auth == "api_key" else ""
        return Sending(url, {**replay_headers(url, key), **token}, sign)

    def generation(self) -> str:
        """A short fingerprint of models.yaml and the record, which changes with either."""
        digest = hashlib.sha256(manifest_path(self.manifest).read_bytes())
        log = self.log.path
        digest.update(log.read_bytes() if log.exists() else b"")
        return digest.hexdigest()[:16]

    def traffic(self) -> Mapping[str, Any]:
        """Return the counters of every stage since the server's start; empty on AWS, where CloudWatch has them.

        Raises:
            UnreachableError: the server does not answer.
        """
        if not self.target.is_local:
            return {}
        url = self.target.endpoint_url
        headers = service_headers(find_token(self.folder, url))
        with self._cached.counters_lock:
            if self._cached.counters is None:
                self._cached.counters = ApiConnection(url, timeout_s=TIMEOUT_S)
            answer = self._cached.counters.request("GET", "/turnout/metrics", headers=headers)
        if answer.status != 200:
            raise UnreachableError(f"{url}/turnout/metrics answered {answer.status}")
        metrics: Mapping[str, Any] = json.loads(answer.body)
        return metrics
