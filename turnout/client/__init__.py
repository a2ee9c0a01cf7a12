"""Calls a running API: clients, connections, responses, lines of a capture. It may use the protocol only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnout.client.async_client import AsyncClient
    from turnout.client.client import ApiError, Client, InferenceResult, PendingRequest
    from turnout.client.connection import UnreachableError

__all__ = ["ApiError", "AsyncClient", "Client", "InferenceResult", "PendingRequest", "UnreachableError"]

_HOMES = {"AsyncClient": "async_client", "UnreachableError": "connection"}


def __getattr__(name: str) -> Any:
    """Import a module when one of its classes is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'client')}"), name)
