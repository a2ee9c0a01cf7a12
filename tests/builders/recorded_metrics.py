"""CloudWatch's GetMetricData, answered from values that a test provides, in the shapes of AWS's own model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.validate import validate_parameters

PAGE = 20
"""Results per answer, small enough to get several pages."""

Key = tuple[str, str, str, str]
"""Function's name or `name:alias` (for a pool `name:alias/model/version`), metric, statistic."""


class RecordedMetrics:
    """Answers GetMetricData calls of a boto3 client before they reach a socket; records the requests.

    Args:
        client: CloudWatch's client.
        values: the values of each metric, one per minute.
        status: the status of every result.
    """

    def __init__(self, client: Any, values: Mapping[Key, Sequence[float]], status: str = "Complete") -> None:
        self.asked: list[dict[str, Any]] = []
        self._shape = client.meta.service_model.operation_model("GetMetricData").output_shape
        self._values = values
        self._status = status
        client.meta.events.register("provide-client-params.cloudwatch.GetMetricData", self._keep)
        client.meta.events.register("before-call.cloudwatch.GetMetricData", self._answer)

    @property
    def spans(self) -> set[tuple[datetime, datetime]]:
        """Time spans for which metrics were requested."""
        return {(entry["StartTime"], entry["EndTime"]) for entry in self.asked}

    def _keep(self, params: dict[str, Any], **_: Any) -> None:
        self.asked.append(params)

    def _answer(self, **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        params = self.asked[-1]
        first = int(params.get("NextToken", "0"))
        queries = params["MetricDataQueries"]
        answer: dict[str, Any] = {
            "MetricDataResults": [self._result(query) for query in queries[first : first + PAGE]],
            "ResponseMetadata": {"HTTPStatusCode": 200},
        }
        if first + PAGE < len(queries):
            answer["NextToken"] = str(first + PAGE)
        validate_parameters({name: answer[name] for name in answer if name != "ResponseMetadata"}, self._shape)
        return AWSResponse("", 200, {}, None), answer

    def _result(self, query: Mapping[str, Any]) -> dict[str, Any]:
        metric, statistic = query["MetricStat"]["Metric"], query["MetricStat"]["Stat"]
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
        pooled = f"/{dimensions['Model']}/{dimensions['Version']}" if "Model" in dimensions else ""
        key = (dimensions["FunctionName"], dimensions["Resource"] + pooled, metric["MetricName"], statistic)
        values = [float(value) for value in self._values.get(key, ())]
        return {
            "Id": query["Id"],
            "Label": metric["MetricName"],
            "Timestamps": [datetime.fromtimestamp(60 * number) for number in range(len(values))],
            "Values": values,
            "StatusCode": self._status,
        }
