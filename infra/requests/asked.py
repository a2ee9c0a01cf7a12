"""The requirements of a plan on asynchronous requests: the functions' settings, and the retention of objects."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from turnout.manifest.access import Cors
from turnout.plan.values import Plan
from turnout.protocol.aws.cors import ANY_ORIGIN, EXPOSED
from turnout.protocol.aws_requests.settings import (
    ANSWERS,
    BODIES,
    MOST_RUN_S,
    STATES,
    UPLOADS,
    RequestSettings,
    StageRules,
)

DAY_S = 86_400

LONGEST_DAYS = 31
"""Every object is deleted after this time, even if its stage no longer has `async`: twice the longest time to live of
14 days, and the runs in between.
"""

UPLOAD_DAYS = 2
"""An upload can be used for an hour; S3 deletes after whole days."""

MOST_RECEIVES = 20
"""Number of receives after which SQS itself moves a message to the dead letters. Retries of a request are new messages,
so only these count: a worker that ended without a result, a duplicate of a running request, and a worker that Lambda
did not start because the account's concurrency was used up. The last is frequent if many functions are busy.
"""


def make_settings(plan: Plan) -> RequestSettings:
    """Return the settings for the functions."""
    stages = {
        stage.name: StageRules(
            stage.asynchronous.time_to_live_s,
            stage.asynchronous.max_attempts,
            stage.asynchronous.max_body_mb,
            stage.asynchronous.callback_hosts,
            stage.asynchronous.allow_private_callbacks,
        )
        for api in plan.apis
        for stage in api.stages
        if stage.asynchronous is not None
    }
    return RequestSettings(stages, {function.name: plan.run_limit_s(function) for function in plan.functions})


def longest_run_s(plan: Plan) -> float:
    """Return the longest time limit of a run."""
    return max(make_settings(plan).timeouts_s.values(), default=float(MOST_RUN_S))


@dataclass(frozen=True, slots=True)
class Kept:
    """One lifecycle rule: objects with a prefix are deleted this many days after they were written."""

    name: str
    prefix: str
    days: int


def plan_lifecycle(plan: Plan) -> Iterator[Kept]:
    """Yield the lifecycle rules. S3 rounds up to whole days; for callers, a request ends on time by its state."""
    for stage, rules in make_settings(plan).stages.items():
        whole = math.ceil(rules.time_to_live_s / DAY_S)
        # A state and an answer are written when the request ends. Its body waits as long before that.
        for name, prefix, days in (
            ("state", STATES, whole + 1),
            ("answer", ANSWERS, whole + 1),
            ("body", BODIES, 2 * whole + 2),
            ("upload", UPLOADS, UPLOAD_DAYS),
        ):
            yield Kept(f"{stage}-{name}", f"{prefix}{stage}/", min(days, LONGEST_DAYS))
    for name, prefix in (("state", STATES), ("answer", ANSWERS), ("body", BODIES), ("upload", UPLOADS)):
        yield Kept(f"any-{name}", prefix, LONGEST_DAYS)


EXPOSED_BY_S3 = (
    "ETag",
    "x-amz-meta-turnout-sha256",
    "x-amz-meta-turnout-status",
    *(f"x-amz-meta-{name.lower()}" for name in EXPOSED.split(", ")),
)
"""Headers of an object that a page may read. S3 allows no wildcard among them."""


def plan_cors(plan: Plan) -> tuple[Cors, ...]:
    """Return the pages that may use the bucket's signed addresses; nothing if no stage with `async` has `cors`.

    A bucket belongs to all stages, so the origins of all of them may send parts. Every page may fetch: the API
    redirects to an answer, and after a redirect to another origin browsers send `Origin: null`. Source: Fetch
    Standard, "HTTP-redirect fetch".
    """
    allowed = [
        api.cors
        for api in plan.apis
        if api.cors is not None and any(stage.asynchronous is not None for stage in api.stages)
    ]
    if not allowed:
        return ()
    origins = tuple(dict.fromkeys(origin for cors in allowed for origin in cors.origins))
    max_age_s = min(cors.max_age_s for cors in allowed)
    senders = (ANY_ORIGIN,) if ANY_ORIGIN in origins else origins
    return (
        Cors(senders, headers=("*",), methods=("PUT",), max_age_s=max_age_s),
        Cors((ANY_ORIGIN,), headers=("*",), methods=("GET", "HEAD"), max_age_s=max_age_s),
    )
