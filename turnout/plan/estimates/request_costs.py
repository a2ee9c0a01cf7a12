"""Estimates the costs of asynchronous requests on AWS: without any, and for a million of them besides their calls."""

from __future__ import annotations

from collections.abc import Iterator

from turnout.manifest.parser import Prices
from turnout.plan.estimates.rest import Rest
from turnout.plan.values import Plan

ALARM_METRICS = 2
"""Metrics of the worker's alarms: the age of the oldest message, and dead letters (infra/requests/worker.py).

Only a stack that notifies someone, with `turnout:alarm_topic_arn`, has them.
"""

POLLS_MILLION = 0.65
"""Millions of SQS calls in a month by which Lambda polls an idle queue, estimated: five pollers, 20 s each.

They are within the million that AWS gives every account each month.
"""

WORKER_GB = 0.25
WORKER_MS = 100.0
"""Duration of the worker besides the run that it waits for, and its memory."""

WRITTEN, READ = 5, 5
"""Objects of a request without an upload: body, answer and three states are written; caller and worker read some."""

MESSAGES = 4
"""Calls of SQS for a request: send, receive, hide, delete."""

FURTHER_REQUESTS = 2
"""Requests to the API besides the first: the state, and the answer."""

FURTHER_CALLS = 4
"""Calls of functions besides the run: acceptance, the worker, and the general router for each further request."""


def estimate_polls(plan: Plan, prices: Prices) -> Iterator[Rest]:
    """Yield the costs in a month without asynchronous requests."""
    if plan.is_asynchronous:
        yield Rest("queue's polls", POLLS_MILLION, "million calls", prices.sqs_million)


def estimate_requests(plan: Plan, prices: Prices, call_ms: float) -> Iterator[Rest]:
    """Yield the costs of a million asynchronous requests besides their calls."""
    if not plan.is_asynchronous:
        return
    yield Rest("API Gateway, state and answer", FURTHER_REQUESTS, "million requests", prices.api_gateway_million)
    yield Rest("further calls of functions", FURTHER_CALLS, "million calls", prices.lambda_million)
    seconds = 1e6 * (call_ms + WORKER_MS) / 1000 * WORKER_GB
    yield Rest("worker, running", seconds, "GB-seconds", prices.lambda_arm64_gb_s)
    yield Rest("objects written", WRITTEN, "million", prices.s3_put_million)
    yield Rest("objects read", READ, "million", prices.s3_get_million)
    yield Rest("messages", MESSAGES, "million calls", prices.sqs_million)
