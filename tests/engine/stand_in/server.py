"""The provider's gRPC server, in a thread of the test's own process: the engine attaches to its port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.protobuf.struct_pb2 import Struct, Value
from pulumi.provider.experimental.provider import Provider
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime import proto
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2_grpc
from pulumi.runtime.rpc import _special_archive_sig, _special_asset_sig, _special_sig_key

STARTING_S = 30.0


class AttachedServicer(ProviderServicer):
    """The SDK's servicer, extended by what the engine requires of a provider to which it attaches."""

    async def Handshake(self, request: Any, context: Any) -> None:
        """Providers need not implement it, but the SDK's own way of saying so looks like a failure."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no handshake")

    async def Check(self, request: Any, context: Any) -> Any:
        """Return the inputs unchanged, if the type is known."""
        await super().Check(proto.CheckRequest(urn=request.urn), context)
        return proto.CheckResponse(inputs=request.news)

    async def Diff(self, request: Any, context: Any) -> Any:
        """With files as maps."""
        open_files(request.olds)
        open_files(request.news)
        return await super().Diff(request, context)

    async def Create(self, request: Any, context: Any) -> Any:
        """With files as maps."""
        open_files(request.properties)
        return await super().Create(request, context)

    async def Update(self, request: Any, context: Any) -> Any:
        """With files as maps."""
        open_files(request.olds)
        open_files(request.news)
        return await super().Update(request, context)

    async def Read(self, request: Any, context: Any) -> Any:
        """Return the current state; the inputs are the requested ones."""
        asked = proto.ReadRequest(id=request.id, urn=request.urn, properties=request.properties)
        answer = await super().Read(asked, context)
        answer.inputs.CopyFrom(request.inputs)
        return answer

    async def DiffConfig(self, request: Any, context: Any) -> Any:
        """No configuration change replaces everything. (The SDK's own answer cannot be encoded.)"""
        return proto.DiffResponse(changes=proto.DiffResponse.DIFF_NONE)

    async def Attach(self, request: Any, context: Any) -> empty_pb2.Empty:
        """The engine sends its address; nothing here calls the engine."""
        return empty_pb2.Empty()


def open_files(values: Struct) -> None:
    """Replace every asset and archive by a map of its `hash`, `path` and `assets`, marked by `isFile`.

    The SDK does not read a file for which the engine sends only the hash, as it does if nothing has changed.
    """
    for value in list(values.fields.values()):
        _open(value)


def _open(value: Value) -> None:
    if value.HasField("list_value"):
        for item in value.list_value.values:
            _open(item)
    elif value.HasField("struct_value"):
        inner = value.struct_value
        if inner.fields[_special_sig_key].string_value in {_special_asset_sig, _special_archive_sig}:
            inner.fields["isFile"].bool_value = True
            del inner.fields[_special_sig_key]
        elif not inner.fields[_special_sig_key].string_value:
            del inner.fields[_special_sig_key]
        open_files(inner)


@contextmanager
def serving(provider: Provider, version: str) -> Iterator[int]:
    """Yield the port of a provider that serves until the end of the block."""
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    ready = threading.Event()
    servers: list[grpc.aio.Server] = []

    async def start() -> None:
        server = grpc.aio.server(options=_GRPC_CHANNEL_OPTIONS)
        servicer = AttachedServicer([], version, provider, engine_address="")
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run, name="stand-in provider", daemon=True)
    thread.start()
    try:
        assert ready.wait(STARTING_S), "the stand-in provider did not start"
        yield ports[0]
    finally:
        asyncio.run_coroutine_threadsafe(servers[0].stop(None), loop).result(STARTING_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STARTING_S)
        loop.close()
