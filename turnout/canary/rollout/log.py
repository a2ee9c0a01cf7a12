"""rollouts.jsonl, next to models.yaml: one line for each change of a canary, with its author and effect.

A line is written before any change, with `"done": false`, and rewritten with true when everything is done. A reader
that finds false knows what was started and everything needed to finish it. The file is replaced atomically each time,
so readers see only whole lines. It belongs in version control, like models.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from turnout.problems import TurnoutError
from turnout.project.manifest_file import replace_text

LOG_NAME = "rollouts.jsonl"

RETURN = "return"
"""The action of `turnout canary rollback STAGE --to-previous`, which undoes a promotion."""


MEND_BY_HAND = "Repair the file by hand: each line must be one JSON object."


class RolloutLogError(TurnoutError):
    """The file cannot be read."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One change of a stage's canary.

    Args:
        time: `2026-11-23T02:10:00Z`.
        who: the user's name.
        stage: the stage's name.
        action: `start`, `set`, `promote`, `rollback` or `return`.
        before: model -> what the baseline served then, as text.
        after: model -> what the canary served; for a `return`, what the baseline serves again.
        percent: the canary's new share; 100 after a promotion, 0 after a rollback.
        release: whether the canary had the new code and routes.
        routed: models with a routed canary.
        verdict: what a judgement said, in a word; empty where none was asked.
        digests: model -> version -> its artifact's sha256, first 12.
        stack: where the stage was changed at once: the Pulumi stack; empty where `pulumi up` applies it.
        endpoint_url: where the stage was changed at once: the control plane; empty for AWS's own.
        manifest: sha256 of models.yaml before and after.
        diff: diff of models.yaml for users; empty if it was not changed, and in records of earlier releases.
        change: the necessary change of the stage, as long as it is not done.
        observed_since: the start of observing the canary (`turnout.canary.observation`), or empty.
        run: the state of `turnout canary run` since then, or empty.
        done: whether all of it is done.
        note: says that it was abandoned; empty otherwise.
    """

    time: str
    who: str
    stage: str
    action: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    percent: float
    release: bool = False
    routed: Sequence[str] = ()
    verdict: str = ""
    digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    stack: str = ""
    endpoint_url: str = ""
    manifest: tuple[str, str] = ("", "")
    diff: str = ""
    change: Mapping[str, Any] = field(default_factory=dict)
    observed_since: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False
    note: str = ""

    @property
    def command(self) -> str:
        """Return the user's command: `turnout canary promote prod`."""
        if self.action == RETURN:
            return f"turnout canary rollback {self.stage} --to-previous"
        models = "".join(f" --model {model}" for model in self.routed) if self.action != "start" else ""
        return f"turnout canary {self.action} {self.stage}{models}"

    def is_of(self, model: str) -> bool:
        """Whether it is about the routed canary of a model; without a model, about the stage's own canary."""
        if model:
            return model in self.routed
        return self.action != RETURN and (self.release or any(name not in self.routed for name in self.after))

    def to_json(self) -> dict[str, Any]:
        """Return one line; empty fields are left out, except for those that every line has."""
        optional = {
            "release": self.release,
            "routed": list(self.routed),
            "stack": self.stack,
            "endpoint_url": self.endpoint_url,
            "diff": self.diff,
            "change": dict(self.change),
            "mark": dict(self.observed_since),
            "run": dict(self.run),
            "note": self.note,
        }
        return {
            "time": self.time,
            "who": self.who,
            "stage": self.stage,
            "action": self.action,
            "from": dict(self.before),
            "to": dict(self.after),
            "percent": self.percent,
            "verdict": self.verdict,
            "digests": {model: dict(versions) for model, versions in self.digests.items()},
            "manifest": list(self.manifest),
            **{key: value for key, value in optional.items() if value},
            "done": self.done,
        }

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> Rollout:
        """Read what `to_json` wrote; ignore keys of a later release."""
        known = {key: fields[key] for key in Rollout.__slots__ if key in fields}
        before, after = fields["manifest"]
        since = fields.get("mark", {})
        if not isinstance(since, dict):
            raise TypeError("`mark` must be an object")
        if not isinstance(fields.get("diff", ""), str):
            raise TypeError("`diff` must be a string")
        renamed = {
            "before": fields["from"],
            "after": fields["to"],
            "manifest": (before, after),
            "routed": tuple(fields.get("routed", ())),
            "observed_since": since,
        }
        return Rollout(**known | renamed)


class RolloutLog:
    """The file next to a manifest; it may not exist yet.

    Args:
        folder: the folder of models.yaml.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_NAME

    def read(self, stage: str = "") -> tuple[Rollout, ...]:
        """Return every rollout, oldest first; only those of one stage if it is named.

        Raises:
            RolloutLogError: a line has another format.
        """
        rollouts = tuple(self._parse(number, line) for number, line in enumerate(self._lines(), 1))
        return tuple(rollout for rollout in rollouts if not stage or rollout.stage == stage)

    def unfinished(self) -> Rollout | None:
        """Return the rollout that was started and not finished; only the last line can be one."""
        rollouts = self.read()
        return rollouts[-1] if rollouts and not rollouts[-1].done else None

    def begin(self, rollout: Rollout) -> None:
        """Record what is about to be done."""
        self._write([*self._lines(), _line(rollout)])

    def finish(self, rollout: Rollout) -> None:
        """Record that the rollout in the last line is done."""
        *earlier, _ = self._lines()
        self._write([*earlier, _line(replace(rollout, change={}, done=True))])

    def forget(self) -> None:
        """Remove the last line: nothing of it was done."""
        *earlier, _ = self._lines()
        self._write(earlier)

    def _lines(self) -> list[str]:
        try:
            with self.path.open(encoding="utf-8", newline="\n") as file:
                return [line.rstrip("\n") for line in file]
        except FileNotFoundError:
            return []
        except UnicodeDecodeError as error:
            raise RolloutLogError(f"{self.path.name} is not UTF-8: {error}", MEND_BY_HAND) from None

    def _parse(self, number: int, line: str) -> Rollout:
        try:
            return Rollout.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            message = f"{self.path.name}:{number}: not a line that turnout wrote: {type(error).__name__}: {error}"
            raise RolloutLogError(message, MEND_BY_HAND) from None

    def _write(self, lines: Iterable[str]) -> None:
        """Replace the file atomically; it is on disk before anything else is done."""
        self.path.touch()
        replace_text(self.path, "".join(f"{line}\n" for line in lines))


def _line(rollout: Rollout) -> str:
    return json.dumps(rollout.to_json(), ensure_ascii=False, separators=(", ", ": "))
