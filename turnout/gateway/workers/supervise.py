"""Assembles the supervisor with everything that it supervises, and runs it until a signal arrives."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from socket import socket

from turnout.gateway.editions.edition import Edition, FileStamp
from turnout.gateway.editions.rebuild import Rebuilt, find_files, rebuild
from turnout.gateway.output.process import Output
from turnout.gateway.shared.state import ControlState, SharedState
from turnout.gateway.workers.channel import Channel
from turnout.gateway.workers.deaths import Deaths
from turnout.gateway.workers.descriptors import LEAST_CONNECTIONS, connections_allowed, count_open, soft_limit
from turnout.gateway.workers.heartbeats import Heartbeats
from turnout.gateway.workers.reload import Numbered, Reload
from turnout.gateway.workers.supervisor import StartError, Supervisor
from turnout.gateway.workers.watch import Watch
from turnout.gateway.workers.worker import First, ServerParts, run_worker
from turnout.gateway.workers.workers import Workers
from turnout.http_server.server import allow_open_files
from turnout.system.processes import adopt_orphans, end_descendants

OTHER_FILES = 1024
"""Descriptors that a worker has besides its connections."""


REFUSED_BY_WORKERS = 4
"""Connections that a worker is given beyond those it serves, so that their clients have time to read its 503."""


def fit_to_descriptors(serving: ServerParts, notify: Callable[[str], None]) -> ServerParts:
    """Return the limits with no more connections than the limit of open files allows.

    Raises:
        StartError: hardly any connections would be left.
    """
    wanted, limit = serving.limits.max_connections, soft_limit()
    allowed = connections_allowed(wanted, limit, count_open())
    if allowed < LEAST_CONNECTIONS:
        raise StartError(f"the limit of open files is {limit}, too few to serve: raise it, as with `ulimit -n 8192`")
    if allowed < wanted:
        notify(
            f"The limit of open files is {limit}: each worker serves at most {allowed} connections at once. "
            f"`ulimit -n {wanted + OTHER_FILES}` allows {wanted:,}."
        )
    return replace(serving, limits=replace(serving.limits, max_connections=allowed))


def supervise(
    sockets: Sequence[socket],
    state: SharedState,
    serving: ServerParts,
    first: First,
    *,
    is_watching: bool,
    notify: Callable[[str], None],
    on_ready: Callable[[], None],
    output: Output | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        sockets: bound, but not yet listening.
        state: contains the number of workers; nothing was published yet.
        serving: parts that do not depend on the edition.
        first: the edition to start with.
        is_watching: apply changes of the files automatically, not only on SIGHUP.
        notify: prints a message for the user.
        on_ready: called once, when every worker is ready to answer.
        output: the redirected streams, if they are redirected.

    Raises:
        StartError: a worker cannot start.
        StopError: a worker did not stop and was killed.
        OSError: the server cannot listen on the sockets.
    """
    allow_open_files(serving.limits.max_connections + OTHER_FILES)
    serving = fit_to_descriptors(serving, notify)
    edition = first.edition
    path = edition.project.manifest.path
    stages = tuple(stage for api in edition.apis for stage in api.stages)
    state.publish(ControlState(first.number, stages, edition.api_keys))

    def run(number: int, channel: Channel) -> int:
        now = reload.current
        served = first if now.number == first.number else First(now.number, now.edition)
        return run_worker(number, channel, state, serving, served)

    def build(before: Edition) -> Rebuilt:
        return rebuild(path, before, functions_of=serving.functions_of, gateway_of=serving.gateway_of)

    def watch_files(files: Mapping[Path, FileStamp]) -> None:
        if watch is not None:
            watch.replace_files(files)

    def find_digests() -> dict[str, str]:
        return {name: fingerprint.digest for name, fingerprint in reload.current.edition.fingerprints.items()}

    def close_inherited() -> None:
        supervisor.close_inherited()
        if output is not None:
            output.close_inherited()

    watch = Watch(find_files(path, edition, edition.project.manifest.versions)) if is_watching else None
    workers = Workers(state, run, close_inherited, capacity=serving.limits.max_connections + REFUSED_BY_WORKERS)
    current = Numbered(first.number, edition)
    reload = Reload(
        current,
        workers,
        state,
        build=build,
        close_inherited=close_inherited,
        notify=notify,
        on_files=watch_files,
        read_s=serving.read_s,
    )
    supervisor = Supervisor(
        sockets,
        workers,
        reload,
        heartbeats=Heartbeats(state.beats),
        deaths=Deaths(state, find_digests),
        watch=watch,
        on_ready=on_ready,
        output=output,
        shutdown_s=serving.limits.shutdown_s,
    )
    # Freeze the existing objects: otherwise each full collection would walk through all of them, which takes
    # milliseconds, and would write to pages that the workers share.
    gc.collect()
    gc.freeze()
    adopt_orphans()
    try:
        supervisor.run()
    finally:
        end_descendants()
