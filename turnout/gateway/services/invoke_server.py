"""The Invoke API for one environment of a router, on its own loopback port, while the environment lives.

It does not use the gateway's own port: that accepts no connections when the gateway stops, while routers still have to
answer; and any worker may answer there, while this one has the environments to share.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from turnout.gateway.services.local_only import local_only
from turnout.http_server.messages import Handler
from turnout.http_server.server import REFUSALS, Limits, serving
from turnout.http_server.service import Service

LIMITS = Limits(shutdown_s=1.0)
"""The environment is dead when its server ends, so its remaining answers have no reader."""


@asynccontextmanager
async def invoke_server(handle: Handler) -> AsyncIterator[Mapping[str, str]]:
    """Serve during the block; yield the variables with the address."""
    async with serving(Service(local_only(handle, {"x-amzn-trace-id"}), LIMITS, REFUSALS, None)) as make_connection:
        server = await asyncio.get_running_loop().create_server(make_connection, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            yield {
                "AWS_ACCESS_KEY_ID": "local",
                "AWS_SECRET_ACCESS_KEY": "local",
                "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}",
            }
        finally:
            server.close()
