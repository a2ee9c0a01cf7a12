"""Alarms in moto's CloudWatch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def put_alarms(cloudwatch: Any, names: Iterable[str], ringing: Iterable[str]) -> None:
    """Make error alarms with these names.

    Args:
        cloudwatch: a boto3 client.
        names: the alarms' names.
        ringing: those of them that are in ALARM.
    """
    for name in names:
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            ComparisonOperator="GreaterThanThreshold",
            EvaluationPeriods=1,
            Namespace="AWS/Lambda",
            MetricName="Errors",
            Period=60,
            Statistic="Sum",
            Threshold=1.0,
        )
    for name in ringing:
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")
