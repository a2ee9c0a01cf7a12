"""What Lambda passes beside the event, for functions that run here.

Made by a hosted function for each run, so nothing is computed before it is asked for.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from turnout.plan.values import Function


class Cancellation(Protocol):
    """What stops a run from another thread."""

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        ...

    def cancel(self) -> None:
        """Make the run end soon; nothing where it has ended already."""
        ...


class Context:
    """What Lambda passes beside the event, under Lambda's names, and the run's `cancellation`, None on the loop."""

    __slots__ = ("_alias", "_deadline", "_event", "_function", "cancellation")

    client_context = None
    identity = None

    def __init__(
        self,
        function: Function,
        alias: str,
        event: Mapping[str, Any],
        deadline: float,
        cancellation: Cancellation | None,
    ) -> None:
        self._function = function
        self._alias = alias
        self._event = event
        self._deadline = deadline
        self.cancellation = cancellation

    @property
    def function_name(self) -> str:
        """`turnout-local_iris_v1`."""
        return self._function.name

    @property
    def function_version(self) -> str:
        """Lambda's number of the published version; there is one here."""
        return "1"

    @property
    def memory_limit_in_mb(self) -> str:
        """A text, as in Lambda."""
        return str(self._function.memory_mb)

    @property
    def invoked_function_arn(self) -> str:
        """With the alias that was called."""
        return f"arn:aws:lambda:local:000000000000:function:{self._function.name}:{self._alias}"

    @property
    def log_group_name(self) -> str:
        """Where Lambda would log."""
        return f"/aws/lambda/{self._function.name}"

    @property
    def log_stream_name(self) -> str:
        """There is one stream here."""
        return "local"

    @property
    def aws_request_id(self) -> str:
        """The gateway's id of the request, so that log lines meet."""
        request_context = self._event.get("requestContext")
        known = request_context.get("requestId") if isinstance(request_context, Mapping) else None
        return str(known or uuid.uuid4())

    def get_remaining_time_in_millis(self) -> int:
        """Until the call times out."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))
