"""A small Invoke API on this machine with configured answers, one connection at a time; it records its requests."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Seen:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def event(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """One answer; `hangs_up` closes the connection without one, `closes` closes it afterwards."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs_up: bool = False
    closes: bool = False


Answer = Callable[[Seen], Reply]


@dataclass
class InvokeApi:
    """What the server received, and how it answers."""

    answer: Answer
    url: str = ""
    seen: list[Seen] = field(default_factory=list)


@contextmanager
def invoke_api(answer: Answer, certificate: Path | None = None) -> Iterator[InvokeApi]:
    """A server on its own port; closed with all its connections at the end; with TLS if it has a certificate."""
    api = InvokeApi(answer)
    connections: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            connections.append(self.connection)
            self.number = len(connections)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.path, headers, body, self.number)
            api.seen.append(seen)
            reply = api.answer(seen)
            self.close_connection = reply.hangs_up or reply.closes
            if reply.hangs_up:
                return
            self.send_response(reply.status)
            for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64  # with the default backlog of five, the kernel would drop some simultaneous connections

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    api.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for connection in connections:
            connection.close()


def replying(document: object, **headers: str) -> Answer:
    """Always return the same function's answer."""
    return lambda _seen: Reply(body=json.dumps(document).encode(), headers=headers)
