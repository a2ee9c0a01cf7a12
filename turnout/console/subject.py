"""The subject of a console: one project, and the place where it is served."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnout.canary.connection import connect
from turnout.canary.observation.samples import fetch_samples
from turnout.canary.report import judgement_of, plan_for
from turnout.canary.rollout.log import RolloutLog
from turnout.canary.rollout.rollout import StageConnection
from turnout.canary.rollout.stage_control import StageTarget
from turnout.client.captured_lines import Sample
from turnout.client.connection import ApiConnection, UnreachableError, read_local_key
from turnout.manifest.parser import Stage
from turnout.plan.values import Plan
from turnout.project.manifest_file import manifest_path
from turnout.project.project import Project, load_project
from turnout.replay.replay import replay_headers
from turnout.system.service_tokens import find_token, service_headers

TIMEOUT_S = 10.0


@dataclass(slots=True)
class _Cached:
    stamp: tuple[int, int] = (0, 0)
    project: Project | None = None
    plan: Plan | None = None
    connections: dict[str, StageConnection] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Subject:
    """One project and where it is served.

    Args:
        manifest: the file that `--manifest` names.
        target: where the stages are served.
        is_mounted: whether the page comes from the server that serves the stages, so that it can send requests.
        capture: the file to which the server's requests are captured, or None.
        load: reads the project.
    """

    manifest: Path
    target: StageTarget
    is_mounted: bool = False
    capture: Path | None = None
    load: Callable[[Path], Project] = load_project
    _cached: _Cached = field(default_factory=_Cached, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """The project's folder."""
        return manifest_path(self.manifest).resolve().parent

    @property
    def log(self) -> RolloutLog:
        """The record of its rollouts."""
        return RolloutLog(self.folder)

    def project(self) -> Project:
        """The project as its files say now; read again where models.yaml has changed.

        Raises:
            ProblemsError: everything that is wrong with it.
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
        """The stage where it is served: kept while models.yaml stays the same, for it takes a plan to find it."""
        project = self.project()
        with self._cached.lock:
            if stage.name not in self._cached.connections:
                judgement = judgement_of(stage, self.target)
                self._cached.connections[stage.name] = connect(project, self.target, stage.name, judgement)
            return self._cached.connections[stage.name]

    def plan(self) -> Plan:
        """The project's plan, kept while models.yaml stays the same: with 1,000 models it takes 0.2 s."""
        project = self.project()
        with self._cached.lock:
            if self._cached.plan is None:
                self._cached.plan = plan_for(project, self.target)
            return self._cached.plan

    def samples(self, stage: str, limit: int) -> list[Sample]:
        """The latest requests that the server sampled for a stage's canary; they stay there for the canary's run.

        Raises:
            UnreachableError: the server does not answer.
        """
        url = self.target.endpoint_url
        return fetch_samples(url, stage, limit, find_token(self.folder, url), keep=True)

    def headers(self, stage: str) -> dict[str, str]:
        """The headers of requests that are sent again to a stage: the mark of a replay, and the stage's key."""
        url = self.target.endpoint_url
        return replay_headers(url, read_local_key(url, self.folder, stage), find_token(self.folder, url))

    def generation(self) -> str:
        """A short fingerprint of models.yaml and the record: a change of either changes it."""
        digest = hashlib.sha256(manifest_path(self.manifest).read_bytes())
        log = self.log.path
        digest.update(log.read_bytes() if log.exists() else b"")
        return digest.hexdigest()[:16]

    def traffic(self) -> Mapping[str, Any]:
        """The counters of every stage since the server's start; empty on AWS, where CloudWatch has them.

        Raises:
            UnreachableError: the server does not answer.
        """
        if not self.target.is_local:
            return {}
        url = self.target.endpoint_url
        headers = service_headers(find_token(self.folder, url))
        with closing(ApiConnection(url, timeout_s=TIMEOUT_S)) as connection:
            answer = connection.request("GET", "/turnout/metrics", headers=headers)
        if answer.status != 200:
            raise UnreachableError(f"{url}/turnout/metrics answered {answer.status}")
        metrics: Mapping[str, Any] = json.loads(answer.body)
        return metrics
