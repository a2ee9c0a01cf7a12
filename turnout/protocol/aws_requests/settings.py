"""The settings that functions read: where requests are stored, and what each stage allows.

The place is in the functions' environment. The stages' settings are an object in the bucket, so changing them publishes
no new version of any function.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

QUEUE_VARIABLE = "TURNOUT_REQUESTS_QUEUE"
DEAD_VARIABLE = "TURNOUT_REQUESTS_DEAD_LETTERS"
"""Variables of a function's environment: the addresses of the queues."""

SETTINGS_KEY = "settings.json"
SECRET_KEY = "secret"  # noqa: S105 - an object's key
STATES, BODIES, ANSWERS, UPLOADS = "requests/", "bodies/", "answers/", "uploads/"
"""Prefixes of the bucket's objects; each is followed by the stage, so each stage has its own lifecycle rules."""

FRESH_S = 60.0
"""How long a function uses settings after reading them."""

MOST_RUN_S = 900
"""The longest run, which is Lambda's limit."""

GRACE_S = 60
"""Added to a run's limit before the run counts as ended without a result."""

VISIBILITY_S = 6 * MOST_RUN_S
"""The queue's visibility timeout. AWS recommends six times the timeout of the function that reads it."""


@dataclass(frozen=True, slots=True)
class StageRules:
    """The rules of a stage, as in `turnout.manifest.values.Asynchronous`."""

    time_to_live_s: int = 86_400
    max_attempts: int = 3
    max_body_mb: int = 1024
    callback_hosts: tuple[str, ...] = ()
    allow_private_callbacks: bool = False


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """The settings of a deployment.

    Args:
        stages: name of each stage that accepts asynchronous requests -> its rules.
        timeouts_s: function -> time limit of its runs.
    """

    stages: Mapping[str, StageRules] = field(default_factory=dict)
    timeouts_s: Mapping[str, float] = field(default_factory=dict)

    def timeout_s(self, function: str) -> float:
        """Return the time limit of a function's runs."""
        return self.timeouts_s.get(function, float(MOST_RUN_S))

    def to_json(self) -> bytes:
        """Return an object for `from_json`."""
        stages = {name: asdict(rules) for name, rules in self.stages.items()}
        value: dict[str, Any] = {"stages": stages, "timeouts_s": dict(self.timeouts_s)}
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> RequestSettings:
        """Return the settings that `to_json` wrote."""
        value = json.loads(text)
        stages = {
            name: StageRules(**{**rules, "callback_hosts": tuple(rules["callback_hosts"])})
            for name, rules in value["stages"].items()
        }
        return cls(stages, value["timeouts_s"])


def requests_name(prefix: str) -> str:
    """Return the name of the queue and of the worker.

    It has a hyphen, since API Gateway may call names with prefix and `_`.
    """
    return f"{prefix}-requests"


def dead_letters_name(prefix: str) -> str:
    """Return the name of the queue of failed requests."""
    return f"{requests_name(prefix)}-dead"


def bucket_name(prefix: str, account: str, region: str) -> str:
    """Return the name of the bucket."""
    return f"{requests_name(prefix)}-{account}-{region}".lower()
