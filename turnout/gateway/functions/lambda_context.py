"""Lambda's context object, for functions that run here.

A hosted function makes it for each run, so values are computed only when they are used.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from turnout.gateway.functions.known_shapes import KnownShapes, Shapes, make_shapes
from turnout.plan.values import Function


class Cancellation(Protocol):
    """Stops a run from another thread."""

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        ...

    def cancel(self) -> None:
        """End the run soon; does nothing if it has already ended."""
        ...


class Context:
    """Lambda's context with Lambda's names, and the run's `cancellation`.

    Args:
        function: the function that runs.
        alias: the called alias.
        event: the call's event.
        deadline: when the call times out, on the monotonic clock.
        cancellation: ends the run.
        known: shapes with which the run may continue; None allows all.
    """

    __slots__ = ("_alias", "_deadline", "_event", "_function", "_known", "cancellation", "is_postponed", "shapes")

    client_context = None
    identity = None

    def __init__(
        self,
        function: Function,
        alias: str,
        event: Mapping[str, Any],
        deadline: float,
        cancellation: Cancellation | None,
        known: KnownShapes | None = None,
    ) -> None:
        self._function = function
        self._alias = alias
        self._event = event
        self._deadline = deadline
        self._known = known
        self.cancellation = cancellation
        self.shapes: Shapes | None = None
        self.is_postponed = False

    def may_run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Whether the run may continue with these inputs; if not, it is postponed to a thread."""
        if self._known is None:
            self.shapes = make_shapes(inputs)
            return True
        if self._known.knows(inputs):
            return True
        self.is_postponed = True
        return False

    @property
    def function_name(self) -> str:
        """`turnout-local_iris_v1`."""
        return self._function.name

    @property
    def function_version(self) -> str:
        """Lambda's number of the published version; there is only one here."""
        return "1"

    @property
    def memory_limit_in_mb(self) -> str:
        """The memory size as text, as on Lambda."""
        return str(self._function.settings.memory_mb)

    @property
    def invoked_function_arn(self) -> str:
        """The ARN with the called alias."""
        return f"arn:aws:lambda:local:000000000000:function:{self._function.name}:{self._alias}"

    @property
    def log_group_name(self) -> str:
        """The name of Lambda's log group."""
        return f"/aws/lambda/{self._function.name}"

    @property
    def log_stream_name(self) -> str:
        """The name of the only log stream."""
        return "local"

    @property
    def aws_request_id(self) -> str:
        """The gateway's id of the request, so that log lines can be matched."""
        request_context = self._event.get("requestContext")
        known = request_context.get("requestId") if isinstance(request_context, Mapping) else None
        return str(known or uuid.uuid4())

    def get_remaining_time_in_millis(self) -> int:
        """Return the time until the call times out."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))
