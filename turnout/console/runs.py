"""Canary runs started in the console, like `turnout canary run`, each in a thread of the console's process.

rollouts.jsonl records the state of a run. The other parts of what a page shows are in `.turnout/runs`, because any
process may receive a request: `STAGE.lock` is locked while a run is driven, and the kernel unlocks it when the process
ends; `STAGE.json` contains the last tick; `STAGE.stop` asks the run to stop.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from turnout.canary.agreement import compare_for
from turnout.canary.judging.checks import shares_of
from turnout.canary.judging.states import TERMINAL, State
from turnout.canary.observed_models import records_of
from turnout.canary.report import judgement_of
from turnout.canary.rollout.action import Action, Prepared, prepare
from turnout.canary.rollout.log import Rollout
from turnout.canary.rollout.stage_canaries import find_canary, find_stage, view_of
from turnout.canary.run import CanaryRun, RunSettings, Surroundings, check_share, find_earlier, find_run, is_continued
from turnout.canary.run_settings import ending_of, interval_of, plan_text
from turnout.console.subject import Subject
from turnout.manifest.parser import Stage
from turnout.problems import ProblemsError, TurnoutError
from turnout.project.project import CACHE_DIR

logger = logging.getLogger(__name__)

LOOK_FOR_STOP_S = 0.25

LOCK_TRIES = 5
LOCK_WAIT_S = 0.05

STOPPING_S = 10.0
"""How long a stop request waits for the run's end."""


class Stopped(Exception):  # noqa: N818 - requested by the user, not a failure
    """The run was asked to stop."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of one stage's run.

    Args:
        folder: `.turnout/runs` of the project.
        stage: the stage's name.
    """

    folder: Path
    stage: str

    def lock(self) -> int | None:
        """Return a descriptor that holds the lock; None if a run is driven already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def is_driven(self) -> bool:
        """Whether a process drives a run."""
        if not self._path("lock").exists():
            return False
        descriptor = self.lock()
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def begin(self) -> None:
        """Delete the files of the previous run."""
        self._path("stop").unlink(missing_ok=True)
        self._path("json").unlink(missing_ok=True)

    def note(self, **fields: Any) -> None:
        """Save the last tick, for the pages."""
        made = self._path("json.new")
        made.write_text(json.dumps(fields))
        made.replace(self._path("json"))

    def noted(self) -> Mapping[str, Any]:
        """Return the last tick; empty if there is none."""
        try:
            note = json.loads(self._path("json").read_text())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def ask_to_stop(self) -> None:
        """Ask the run to stop; it notices within `LOOK_FOR_STOP_S`."""
        self._path("stop").touch()

    def is_to_stop(self) -> bool:
        """Whether it was asked to stop."""
        return self._path("stop").exists()

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.stage}.{suffix}"


def files_of(subject: Subject, stage: str) -> RunFiles:
    """Return the files of a stage's run."""
    return RunFiles(subject.folder / CACHE_DIR / "runs", stage)


def start_run(subject: Subject, stage: str, settings: RunSettings) -> str:
    """Start a run, or resume the one that stopped. Returns the success message.

    The first move is made before this returns, so its errors are raised here.

    Raises:
        EditError, RolloutError, StageControlError, ManifestChangedError, ProblemsError: it cannot start.
    """
    files = files_of(subject, stage)
    descriptor = _lock_soon(files)
    if descriptor is None:
        raise TurnoutError(f"a run of {stage} is in progress", "Stop it first.")
    try:
        files.begin()
        run = _make_run(subject, stage, settings, _waiting(files))
    except BaseException:
        os.close(descriptor)
        raise
    target = (run, files, descriptor, interval_of(run.judgement, is_local=subject.target.is_local))
    threading.Thread(target=_drive, args=target, name=f"run of {stage}", daemon=True).start()
    begun = "Resumed" if run.resumed else "Started"
    return f"{begun} canary run on {stage}: {plan_text(run.judgement, run.state.percent)}"


def stop_run(subject: Subject, stage: str) -> str:
    """Stop a run and keep the canary. Returns the success message.

    Raises:
        TurnoutError: no run is driven here, or it does not stop.
    """
    find_stage(subject.project().manifest, stage)
    files = files_of(subject, stage)
    if not files.is_driven():
        raise TurnoutError(f"no run of {stage} is driven by a console", "A run in a terminal ends with Ctrl-C.")
    files.ask_to_stop()
    until = time.monotonic() + STOPPING_S
    while files.is_driven():
        if time.monotonic() > until:
            raise TurnoutError(f"the run of {stage} stops after its current check", "Refresh the page.")
        time.sleep(LOOK_FOR_STOP_S)
    return f"Stopped the run. {files.noted().get('ending', '')}".strip()


def prepare_run(subject: Subject, stage: str, settings: RunSettings) -> tuple[str, Prepared | None]:
    """The preview of a run, and its first move; None where it continues a stopped run.

    Raises:
        EditError, RolloutError, ProblemsError: it cannot start.
    """
    project = subject.project()
    model, view = view_of(find_stage(project.manifest, stage), "")
    canary, judgement = find_canary(project.manifest, stage), judgement_of(view, subject.target)
    earlier = find_earlier(records_of(subject.log.read(stage), model), canary, judgement, settings)
    own = (earlier or settings).over(judgement)
    words = plan_text(own, canary.percent)
    percent = (shares_of(own) or (canary.percent,))[0]
    check_share(stage, own, percent)
    if earlier:
        return f"the run continues at {canary.percent:g}%: {words}", None
    named = {model: ""} if model else {}
    prepared = prepare(project, Action("set", stage, named, percent), subject.target, now_s=time.time())
    ending = "It is promoted after the last step and rolled back if a check fails."
    return f"{stage} goes through {words} {ending}", prepared


def describe_run(subject: Subject, stage: Stage, rollouts: tuple[Rollout, ...]) -> dict[str, Any] | None:
    """Return the state of the stage's run, or the end of the last one.

    Return None if the stage's last change was not by a run.
    """
    files = files_of(subject, stage.name)
    is_driven = files.is_driven()
    model = next(iter(stage.routed)) if stage.canary is None and len(stage.routed) == 1 else ""
    view = stage.with_canary_of(model) if model else stage
    records = records_of(rollouts, model)
    run = find_run(records)
    if not run:
        return None
    state = State.from_json(dict(run["state"]))
    is_same = view.canary is not None and is_continued(records, view.canary, state)
    if not records[-1].run and not is_same:
        return None
    noted = files.noted()
    is_over = state.phase in TERMINAL
    if is_driven and not is_over and noted.get("step") == state.step:
        state = State.from_json({**run["state"], "phase": noted["phase"], "reason": noted["reason"]})
    settings = RunSettings.from_json(run["settings"])
    judgement = settings.over(judgement_of(view, subject.target))
    return {
        "is_driven": is_driven,
        "is_over": is_over,
        "phase": str(state.phase),
        "step": state.step,
        "steps": [*run["shares"]] or [state.percent],
        "percent": state.percent,
        "reason": state.reason,
        "step_started_s": state.step_started_s,
        "bake_s": judgement.bake_minutes * 60,
        "problem": noted.get("problem", "") if is_driven else "",
        "ending": ending_of(state, stage.name) if is_over else "" if is_driven else noted.get("ending", ""),
    }


def _lock_soon(files: RunFiles) -> int | None:
    """Return the lock; retry briefly, because checking whether a run is driven holds it for a moment."""
    for _ in range(LOCK_TRIES):
        if (descriptor := files.lock()) is not None:
            return descriptor
        time.sleep(LOCK_WAIT_S)
    return None


def _make_run(subject: Subject, stage: str, settings: RunSettings, sleep: Callable[[float], None]) -> CanaryRun:
    project = subject.project()
    model, view = view_of(find_stage(project.manifest, stage), "")
    judgement = judgement_of(view, subject.target)
    connection = subject.connection(view)
    compare = compare_for(project, replace(view, routed={}), subject.target, connection)
    around = Surroundings(
        subject.project, subject.manifest, subject.log, subject.target, connection, compare, time.time, sleep
    )
    return CanaryRun(around, stage, judgement, settings, model)


def _waiting(files: RunFiles) -> Callable[[float], None]:
    """Return a function that waits for some seconds and raises `Stopped` once the run was asked to stop."""

    def wait(seconds: float) -> None:
        until = time.monotonic() + seconds
        while not files.is_to_stop():
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LOOK_FOR_STOP_S))
        raise Stopped

    return wait


def _drive(run: CanaryRun, files: RunFiles, descriptor: int, interval_s: float) -> None:
    """Drive a run to its end, and unlock it."""
    ending = f"The canary stays at {run.state.percent:g}%."
    try:
        for tick in run.ticks(interval_s):
            state = tick.state
            ending = f"The canary stays at {state.percent:g}%."
            files.note(step=state.step, phase=str(state.phase), reason=state.reason, problem=tick.problem)
        ending = ending_of(run.state, files.stage)
    except Stopped:
        pass
    except TurnoutError as error:
        ending = f"{error.message}. {error.hint}"
    except ProblemsError:
        ending = f"The run ended because models.yaml can no longer be edited. {ending}"
    except Exception:
        logger.exception("the run of %s failed", files.stage)
        ending = f"The run failed; the server's log says why. {ending}"
    finally:
        with suppress(OSError):
            files.note(ending=ending)
        os.close(descriptor)
