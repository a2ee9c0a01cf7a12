"""Whether versions can be opened and which requests crash the process, tried once for each digest and cached.

Every version is tried except those whose operators are all in `SOUND_OPERATORS`: it is unknown which operators crash
the process, so each one that was not tried by itself is suspected. A process imports onnxruntime once for all versions,
opens each and sends it some dozens of tiny requests, which takes about 10 ms for a small model. The result is cached by
digest and release of onnxruntime: each of a thousand versions is tried once, when it is added, built or first called.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version as release_of
from pathlib import Path
from typing import Any

import orjson

from turnout import __version__
from turnout.artifacts.artifact import Artifact
from turnout.artifacts.graph_operators import GraphOperators
from turnout.layout import model_lambdas_package
from turnout.protocol.tensors.fatal_requests import NO_END, FatalRequest
from turnout.runtimes.registry import RUNTIMES
from turnout.system.files import write_whole
from turnout.trials.operators import SOUND_OPERATORS
from turnout.trials.process import TrialEndedError, TrialProcess, TrialTimeoutError
from turnout.trials.requests import TrialStep, make_steps

OPEN_PATIENCE_S = 300.0
RUN_PATIENCE_S = 20.0
"""Time limit for a report of one run; the run should end after `turnout.trials.child.RUN_S`, between two nodes."""

LOCATE_S = 60.0
"""Time limit for finding the operator: a session for each node."""

MOST_FATAL = 12
"""Most kinds of fatal requests; a version with more is refused."""

LARGEST_LOCATED_BYTES = 32 * 1024 * 1024
"""The largest model that is run node by node to find the operator."""

FORMAT = f"{__version__}/2"

(TRIED,) = (runtime for runtime in RUNTIMES.values() if runtime.is_tried)
"""The runtime whose versions are tried: the requests that are known to crash a process are for this runtime."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a trial.

    Args:
        reason: why it cannot be opened, in onnxruntime's words; empty if it can.
        fatal: the requests that crash the process.
    """

    reason: str = ""
    fatal: tuple[FatalRequest, ...] = ()


SOUND = Trial()


class Trials:
    """Trial results by digest; unknown ones are tried. Safe in several threads and processes at once.

    Args:
        folder: the cache, `.turnout/trials`; it need not exist or be writable.
        process: process that tries versions.
    """

    def __init__(self, folder: Path, process: TrialProcess | None = None) -> None:
        self._folder = folder
        self._process = process or TrialProcess()
        self._lock = threading.Lock()

    def of(self, artifact: Artifact, name: str, *, whether_it_opens: bool = True) -> Trial:
        """Return a version's trial, made now or earlier.

        Args:
            artifact: artifact of the version.
            name: `iris v1`, for messages.
            whether_it_opens: whether to open versions whose operators are all sound, too; they need no other trial.
        """
        if not whether_it_opens and _is_sound(artifact.operators):
            return SOUND
        known = self._read(artifact.sha256)
        if known is not None:
            return known
        with self._lock, self._alone():
            known = self._read(artifact.sha256)  # another process may have tried it meanwhile
            if known is not None:
                return known
            trial = self._try(artifact, name)
            if not trial.reason:  # the reason why it did not open, a locale or memory, may be gone next time
                self._write(artifact.sha256, trial)
            return trial

    def close(self) -> None:
        """End the process that tries versions."""
        with self._lock:
            self._process.close()

    def _try(self, artifact: Artifact, name: str) -> Trial:
        steps = () if _is_sound(artifact.operators) else make_steps(artifact.graph_signature)
        fatal: list[FatalRequest] = []
        skip: set[int] = set() if steps else set(range(len(make_steps(artifact.graph_signature))))
        while True:
            now = -1
            try:
                for report in self._process.do(_job(artifact, name, skip, None), OPEN_PATIENCE_S, RUN_PATIENCE_S):
                    if "failed" in report:
                        return Trial(report["failed"].removeprefix(f"{name}: "))
                    if "step" in report:
                        now = report["step"]
                        skip.add(now)
                return Trial(fatal=tuple(fatal))
            except (TrialEndedError, TrialTimeoutError) as error:
                if now < 0:
                    crash = f"onnxruntime crashes the process ({error.ending}) when it opens {artifact.path.name}"
                    # a file that opens very slowly: no further request is known to be fatal
                    return Trial("" if error.ending == NO_END else crash, tuple(fatal))
                if error.ending == NO_END and not steps[now].kind.empty:
                    continue  # a run with much to do does not crash the process; one without data must end
                ending = error.ending
            kind = replace(steps[now].kind, ending=ending, operator=self._locate(artifact, name, now))
            fatal.append(kind)
            skip |= _covered(kind, steps)
            if len(fatal) == MOST_FATAL:
                return Trial(fatal=(*fatal, replace(kind, empty=(), values=())))

    def _locate(self, artifact: Artifact, name: str, step: int) -> str:
        """Return the operator that crashes the process; empty if it cannot be determined."""
        if artifact.size_bytes > LARGEST_LOCATED_BYTES:
            return ""
        node, deadline = "", time.monotonic() + LOCATE_S
        try:
            for report in self._process.do(_job(artifact, name, set(), step), OPEN_PATIENCE_S, RUN_PATIENCE_S):
                node = report.get("node", node)
                if time.monotonic() > deadline:
                    self._process.close()
                    return ""
        except (TrialEndedError, TrialTimeoutError):
            return node
        return ""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let only one process at a time try a digest, if the folder is writable."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((self._folder / "lock").open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _entry(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.json"

    def _read(self, sha256: str) -> Trial | None:
        try:
            fields = orjson.loads(self._entry(sha256).read_bytes())
            if fields["format"] != _format():
                return None
            return Trial(fatal=tuple(FatalRequest.from_json(kind) for kind in fields["fatal"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, sha256: str, trial: Trial) -> None:
        """Cache the result, if possible: a folder that is not writable only costs time."""
        data = orjson.dumps({"format": _format(), "fatal": [kind.to_json() for kind in trial.fatal]})
        with contextlib.suppress(OSError):
            write_whole(self._entry(sha256), data)


def _covered(kind: FatalRequest, steps: tuple[TrialStep, ...]) -> set[int]:
    """Return the numbers of the steps that need no trial any more."""
    return {number for number, step in enumerate(steps) if kind.covers(step.kind)}


def _is_sound(operators: GraphOperators) -> bool:
    """Whether no request can crash the process: its operators are all sound, also `Conv` with weights of its own."""
    return SOUND_OPERATORS.issuperset(operators.names) and not (operators.names and operators.follows_values)


def _job(artifact: Artifact, name: str, skip: set[int], locate: int | None) -> dict[str, Any]:
    model, _, version = name.partition(" ")
    return {
        "package": model_lambdas_package(),
        "opener": TRIED.opener,
        "model": model,
        "version": version,
        "sha256": artifact.sha256,
        "signature": artifact.graph_signature.to_json(),
        "artifact": str(artifact.path),
        "external_files": [str(file) for file in artifact.external_files],
        "size_bytes": artifact.size_bytes,
        "copies": tempfile.gettempdir(),
        "skip": sorted(skip),
        "locate": locate,
    }


@functools.cache
def _format() -> str:
    return f"{FORMAT} {TRIED.engine} {release_of(TRIED.engine)}"


Try = Callable[[Artifact, str], Trial]
"""Return an artifact's trial; the name is for messages."""
