"""HTTP connections to one endpoint, kept open between requests and shared by threads.

The server may have closed a kept connection, above all if Lambda has frozen the process for minutes. This shows when
the request is sent or before the first byte of a response: only then is the request sent again.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

MOST_IDLE = 16
"""Most idle connections that are kept: enough for the members of a large ensemble."""

_CLOSED = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    http.client.RemoteDisconnected,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, headers (`get` ignores case) and body of a response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Connections:
    """Connections to one endpoint.

    Args:
        endpoint: a URL without a path, `https://lambda.eu-west-1.amazonaws.com`.
        clock: monotonic clock in seconds, also used for deadlines.
    """

    def __init__(self, endpoint: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{endpoint!r} is not an endpoint such as https://lambda.eu-west-1.amazonaws.com")
        self.host = parts.netloc
        self._is_tls = parts.scheme == "https"
        self._clock = clock
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._context = ssl.create_default_context() if self._is_tls else None

    def post(self, path: str, headers: Mapping[str, str], body: bytes, deadline_s: float) -> HttpAnswer:
        """Send one request and read its response.

        Raises:
            TimeoutError: the response was not complete at the deadline.
            OSError: the connection failed, or broke during a response.
            http.client.HTTPException: the response is not HTTP.
        """
        while True:
            try:
                connection, is_kept = self._idle.pop(), True
            except IndexError:
                connection, is_kept = self._open(), False
            try:
                self._set_timeout(connection, deadline_s)
                if not is_kept:
                    connection.connect()
                    _keep_alive(connection)
                connection.request("POST", path, body, dict(headers))
                self._set_timeout(connection, deadline_s)
                response = connection.getresponse()
            except _CLOSED:
                connection.close()
                if is_kept:
                    continue
                raise
            except BaseException:
                connection.close()
                raise
            return self._read(connection, response, deadline_s)

    def _read(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, deadline_s: float
    ) -> HttpAnswer:
        try:
            self._set_timeout(connection, deadline_s)
            body = response.read()
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None and len(self._idle) < MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return HttpAnswer(response.status, response.headers, body)

    def _open(self) -> http.client.HTTPConnection:
        if self._is_tls:
            return http.client.HTTPSConnection(self.host, context=self._context)
        return http.client.HTTPConnection(self.host)

    def _set_timeout(self, connection: http.client.HTTPConnection, deadline_s: float) -> None:
        left_s = deadline_s - self._clock()
        if left_s <= 0:
            raise TimeoutError
        connection.timeout = left_s
        if connection.sock is not None:
            connection.sock.settimeout(left_s)

    def close(self) -> None:
        """Close the kept connections."""
        while self._idle:
            self._idle.pop().close()


KEEP_ALIVE_S = 60
"""A call may take 15 minutes without a byte, and network address translators in between drop idle connections after
six. Source: AWS Lambda API Reference, "Invoke": "allow for long connections with timeout or keep-alive settings";
Amazon VPC User Guide, "NAT gateways": 350 seconds.
"""


def _keep_alive(connection: http.client.HTTPConnection) -> None:
    """Make the kernel send keep-alive packets on an idle connection."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            connection.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), KEEP_ALIVE_S)
