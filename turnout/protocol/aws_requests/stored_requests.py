"""Accepts and runs asynchronous requests in a function, if the deployment stores requests.

It is light: boto3 and the modules that need it are imported at the first asynchronous request.
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
    """The asynchronous requests of a function's deployment.

    Args:
        environ: the function's environment.
        connect: opens the store in an environment; by default `turnout.protocol.aws_requests.connect`.
    """

    def __init__(
        self, environ: Mapping[str, str], connect: Callable[[Mapping[str, str]], RequestStore] | None = None
    ) -> None:
        self._environ = environ
        self._connect = connect
        self._store: RequestStore | None = None

    def find(self) -> RequestStore | None:
        """Return the store; None if the deployment has none."""
        if self._store is None and BUCKET_VARIABLE in self._environ:
            if self._connect is not None:
                self._store = self._connect(self._environ)
            else:
                from turnout.protocol.aws_requests.connect import connect

                self._store = connect(self._environ)
        return self._store

    def accepting(self, handle: LambdaHandler, function: str, model: str, version: str = "") -> LambdaHandler:
        """Return a handler that also accepts asynchronous inferences.

        Args:
            handle: handler of all other events.
            function: name of this function, which runs them.
            model: the function's model.
            version: the function's version; empty for a router.
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
        """Return a handler that also runs stored requests."""
        if BUCKET_VARIABLE not in self._environ:
            return handle

        def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
            store = self.find() if (event.get("turnout") or {}).get(KEY) else None
            if store is None:
                return handle(event, context)
            from turnout.protocol.aws_requests.running import running_stored

            return running_stored(handle, store.bucket)(event, context)

        return handler
