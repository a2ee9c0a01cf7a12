"""Asynchronous requests of a function: accepts them and runs them, where the deployment has a place for them.

Light: boto3 and the modules that need it are imported at the first asynchronous request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from turnout.protocol.requests.preferences import wants_later
from turnout.protocol.requests.runs import KEY

if TYPE_CHECKING:
    from turnout.protocol.aws.events import LambdaHandler
    from turnout.protocol.aws_requests.store import RequestStore

BUCKET_VARIABLE = "TURNOUT_REQUESTS_BUCKET"
"""Variable of a function's environment: the bucket's name."""


class StoredRequests:
    """The asynchronous requests of the deployment that a function belongs to.

    Args:
        environ: the function's.
        connect: opens the store that an environment names; `turnout.protocol.aws_requests.connect` where none is given.
    """

    def __init__(
        self, environ: Mapping[str, str], connect: Callable[[Mapping[str, str]], RequestStore] | None = None
    ) -> None:
        self._environ = environ
        self._connect = connect
        self._store: RequestStore | None = None

    def find(self) -> RequestStore | None:
        """The store; None where the deployment has none."""
        if self._store is None and BUCKET_VARIABLE in self._environ:
            if self._connect is not None:
                self._store = self._connect(self._environ)
            else:
                from turnout.protocol.aws_requests.connect import connect

                self._store = connect(self._environ)
        return self._store

    def accepting(self, handle: LambdaHandler, function: str, model: str, version: str = "") -> LambdaHandler:
        """The handler that also accepts inferences that are to be made later.

        Args:
            handle: answers all others.
            function: the name of this function, which runs them.
            model: that it serves.
            version: that it serves; empty where it is a router.
        """
        if BUCKET_VARIABLE not in self._environ:
            return handle

        def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
            if not wants_later(event):
                return handle(event, context)
            store = self.find()
            if store is None or event["requestContext"]["stage"] not in store.settings.stages:
                return handle(event, context)
            from turnout.protocol.aws_requests.acceptance import CallTarget, accept

            return accept(store, event, CallTarget(function, model, version, event["resource"]))

        return handler

    def running(self, handle: LambdaHandler) -> LambdaHandler:
        """The handler that also runs stored requests."""
        if BUCKET_VARIABLE not in self._environ:
            return handle

        def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
            store = self.find() if (event.get("turnout") or {}).get(KEY) else None
            if store is None:
                return handle(event, context)
            from turnout.protocol.aws_requests.running import running_stored

            return running_stored(handle, store.bucket)(event, context)

        return handler
