"""The actions on a stage's canary: lists, previews and performs them with the command line's code."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from turnout.canary.report import make_report
from turnout.canary.rollout.action import Action, Prepared, prepare
from turnout.canary.rollout.log import RETURN, Rollout
from turnout.canary.rollout.rollout import carry_out, check_finished
from turnout.canary.rollout.sentences import sentence_of
from turnout.canary.rollout.stage_canaries import Placement, find_stage, place_canary
from turnout.canary.rollout.stage_changes import patch_calls
from turnout.canary.rollout.way_back import describe, find_promotion, make_return, offer_of
from turnout.canary.run import RunSettings
from turnout.canary.run_settings import parse_bake, parse_steps
from turnout.console.runs import prepare_run, start_run
from turnout.console.subject import Subject
from turnout.manifest.parser import Stage
from turnout.problems import TurnoutError
from turnout.project.manifest_file import editing

T = TypeVar("T")

PRODUCTION = "prod"
"""Promoting a stage whose name starts with this prefix requires typing its name."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Whether an action may be taken now.

    Args:
        action: one of `ACTIONS`.
        allowed: whether it is allowed.
        reason: why it is not allowed, a sentence; empty if it is.
        note: what the action does, if its name does not make that clear.
    """

    action: str
    allowed: bool
    reason: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Wish:
    """An action that the page requests.

    Args:
        action: one of `Allowed.action`.
        stage: the stage's name.
        serve: to start: model -> version; to set, promote and roll back: the models, all of the stage's canary if
            empty.
        percent: for a start and a change of the share.
        settings: for a run.
        generation: generation of the state that the page showed.
        typed: the stage's name, if it had to be typed.
    """

    action: str
    stage: str
    serve: Mapping[str, str] = field(default_factory=dict)
    percent: float = 10.0
    settings: RunSettings = field(default_factory=RunSettings)
    generation: str = ""
    typed: str = ""


class WishError(TurnoutError):
    """A request that cannot be fulfilled; `status` is the answer's: 400 malformed, 409 out of date, 422 rejected."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status


def parse_wish(body: Any) -> Wish:
    """Return the wish in a request's JSON.

    Raises:
        WishError: it is malformed; the message names the key.
    """
    if not isinstance(body, dict):
        raise WishError(400, "Send a JSON object.")
    for key in ("action", "stage", "generation"):
        if not isinstance(body.get(key), str) or not body[key]:
            raise WishError(400, f"`{key}` must be a string.")
    if body["action"] not in ACTIONS:
        raise WishError(400, f"`action` must be one of {', '.join(ACTIONS)}.")
    serve = body.get("serve", {})
    if not isinstance(serve, dict) or not all(isinstance(value, str) for value in serve.values()):
        raise WishError(400, "`serve` must map models to versions.")
    percent = body.get("percent", 10.0)
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise WishError(400, "`percent` must be a number from 0 to 100.")
    settings = RunSettings(_setting(body, "steps", parse_steps), _setting(body, "bake", parse_bake))
    typed = str(body.get("typed", ""))
    return Wish(body["action"], body["stage"], serve, float(percent), settings, body["generation"], typed)


def _setting(body: Mapping[str, Any], key: str, parse: Callable[[str], T]) -> T:
    text = body.get(key, "")
    if not isinstance(text, str):
        raise WishError(400, f"`{key}` must be a string.")
    try:
        return parse(text.strip())
    except ValueError as error:
        raise WishError(400, f"`{key}` {error}.") from error


RUN = "run"
"""The action of `turnout canary run STAGE`."""

ACTIONS = ("start", "set", RUN, "promote", "rollback", RETURN)


def list_actions(stage: Stage, rollouts: Sequence[Rollout], *, may_write: bool, is_running: bool) -> list[Allowed]:
    """Return each action with whether it is allowed, and why not.

    Args:
        stage: the stage from models.yaml.
        rollouts: the stage's rollouts, oldest first.
        may_write: whether this console may change anything.
        is_running: whether a console drives a run of its canary.
    """
    blocked = find_obstacle(rollouts, may_write=may_write)
    has_canary = stage.canary is not None or len(stage.routed) == 1
    none = "Choose one of the routed canaries." if stage.routed else f"{stage.name} has no canary."
    promotion = find_promotion(rollouts)
    offer = offer_of(stage, rollouts) if promotion else ""
    back = f"Serves {describe(promotion)} again." if promotion and offer else ""
    reasons = {
        "start": "",
        "set": "" if has_canary else none,
        RUN: none if not has_canary else f"A canary run of {stage.name} is in progress." if is_running else "",
        "promote": "" if has_canary else none,
        "rollback": "" if has_canary else none,
        RETURN: "" if back else "There is no promotion to undo.",
    }
    return [
        Allowed(action, not (blocked or reason), blocked or reason, back if action == RETURN else "")
        for action, reason in reasons.items()
    ]


def find_obstacle(rollouts: Sequence[Rollout], *, may_write: bool) -> str:
    """Return why no action on a stage is allowed; empty if some may be.

    Args:
        rollouts: the stage's rollouts, oldest first.
        may_write: whether this console may change anything.
    """
    if not may_write:
        return "This console is read-only."
    if rollouts and not rollouts[-1].done:
        return f"`{rollouts[-1].command}` was interrupted. Finish it with `turnout canary mend`."
    return ""


def preview(subject: Subject, wish: Wish) -> dict[str, Any]:
    """Return a preview of an action: what is served afterwards, the diff, the calls of UpdateStage and the command.

    Raises:
        WishError: it is out of date.
        EditError, ProblemsError, RolloutError, StageControlError: it cannot be done.
    """
    check_generation(subject, wish)
    sentence = ""
    if wish.action == RUN:
        sentence, prepared = prepare_run(subject, wish.stage, wish.settings)
    else:
        prepared = prepare_wish(subject, wish)
    shown = {"command": command_of(subject, wish), "must_type": must_type(subject, wish)}
    if prepared is None:
        return {"sentence": sentence, "diff": "", "operations": [], **shown}
    live = subject.connection(find_stage(subject.project().manifest, wish.stage)).control.read()
    return {
        "sentence": sentence or sentence_of(prepared.rollout).partition(": ")[2],
        "diff": prepared.rollout.diff,
        "operations": [list(map(dict, call)) for call in patch_calls(live, prepared.change)],
        **shown,
    }


def take(subject: Subject, wish: Wish) -> str:
    """Perform a wish; return the success message.

    Raises:
        WishError: it is out of date, or the stage's name had to be typed.
        EditError, ProblemsError, RolloutError, StageControlError, ManifestChangedError: it cannot be done.
    """
    if wish.action == RUN:
        check_generation(subject, wish)
        check_typed(subject, wish)
        return start_run(subject, wish.stage, wish.settings)
    with editing(subject.manifest, lambda: None):
        check_generation(subject, wish)
        check_finished(subject.log)
        prepared = prepare_wish(subject, wish)
        check_typed(subject, wish)
        stage = find_stage(subject.project().manifest, wish.stage)
        carry_out(prepared, subject.log, subject.connection(stage))
    return sentence_of(prepared.rollout)


def check_generation(subject: Subject, wish: Wish) -> None:
    """Raise a WishError if the page showed another state than the current one."""
    if wish.generation != subject.generation():
        raise WishError(409, "models.yaml or the record has changed since this page was loaded.", "Refresh the page.")


def prepare_wish(subject: Subject, wish: Wish) -> Prepared:
    """Work out what a wish changes; nothing is written."""
    project = subject.project()
    stage = find_stage(project.manifest, wish.stage)
    if wish.action == RETURN:
        action = make_return(stage, subject.log.read(wish.stage))
    else:
        placement = Placement(wish.percent)
        if wish.action == "start":
            placement = place_canary(stage, wish.percent)
        action = Action(wish.action, wish.stage, dict(wish.serve), placement.percent, routed=placement.is_routed)
    return prepare(project, action, subject.target, now_s=time.time())


def check_typed(subject: Subject, wish: Wish) -> None:
    """Raise a WishError if the stage's name had to be typed and was not."""
    if must_type(subject, wish) and wish.typed != wish.stage:
        raise WishError(422, f"Type the stage's name, {wish.stage}, to promote it.")


def must_type(subject: Subject, wish: Wish) -> bool:
    """Whether the stage's name must be typed: to promote in production, also by a run, or against the verdict."""
    if wish.action not in {"promote", RUN}:
        return False
    if wish.stage.startswith(PRODUCTION):
        return True
    if wish.action == RUN:
        return False
    project = subject.project()
    connection = subject.connection(find_stage(project.manifest, wish.stage))
    report = make_report(
        project, wish.stage, subject.log, target=subject.target, connection=connection, plan=subject.plan()
    )
    return report.verdict_on(wish.serve) != "successful"


def command_of(subject: Subject, wish: Wish) -> str:
    """Return the action as a command line to copy."""
    words = ["turnout", "canary", "rollback" if wish.action == RETURN else wish.action, wish.stage]
    if wish.action == "start":
        for model, version in wish.serve.items():
            words += ["--model", model, "--to", version]
    elif wish.action in {"set", "promote", "rollback"}:
        for model in wish.serve:
            words += ["--model", model]
    elif wish.action == RETURN:
        words.append("--to-previous")
    if wish.action in {"start", "set"}:
        words += ["--percent", f"{wish.percent:g}"]
    target = subject.target
    if wish.action == RUN:
        words += ["--steps", ",".join(f"{step:g}" for step in wish.settings.steps)] if wish.settings.steps else []
        words += ["--bake", f"{wish.settings.bake_minutes * 60:g}s"] if wish.settings.bake_minutes is not None else []
    else:
        words.append("--now")
    words += [*(("--url", target.endpoint_url) if target.endpoint_url else ("--stack", target.stack))]
    return shlex.join(words)
