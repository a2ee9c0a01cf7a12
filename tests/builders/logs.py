"""CloudWatch logs of model functions, as moto stores them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import boto3
from moto import mock_aws

from turnout.client.captured_lines import Sample
from turnout.protocol.codecs.samples import write_line


@contextmanager
def logs_client() -> Iterator[Any]:
    """boto3's logs client, backed by moto during the block."""
    with mock_aws():
        yield boto3.client("logs", region_name="eu-west-1", aws_access_key_id="test", aws_secret_access_key="test")


def log_lines(client: Any, function: str, lines: Iterable[tuple[float, str]]) -> None:
    """Write lines, each with its time in seconds, to a function's log group, which is created."""
    group = f"/aws/lambda/{function}"
    client.create_log_group(logGroupName=group)
    client.create_log_stream(logGroupName=group, logStreamName="one")
    events = [{"timestamp": round(time_s * 1000), "message": f"{line}\n"} for time_s, line in lines]
    client.put_log_events(logGroupName=group, logStreamName="one", logEvents=events)


def line_of(sample: Sample, **changes: Any) -> tuple[float, str]:
    """Return a sample, with changes, as its function logs it."""
    changed = replace(sample, **changes)
    return changed.time, write_line(changed).decode()
