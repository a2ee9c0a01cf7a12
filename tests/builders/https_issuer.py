"""An OpenID Connect issuer over HTTPS on this machine, with its own certificate authority."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"

Reply = Callable[[BaseHTTPRequestHandler], None]


class HttpsIssuer:
    """Publishes `jwks`; a test replaces the reply of a path to make it fail.

    Attributes:
        url: the issuer's name, which is its address.
        authority: PEM file of the certificate authority.
        jwks: the keys.
        replies: path -> reply to send instead.
        requests: the paths that were requested.
    """

    def __init__(self, port: int, authority: Path) -> None:
        self.url = f"https://127.0.0.1:{port}"
        self.authority = authority
        self.jwks: dict[str, Any] = {"keys": []}
        self.replies: dict[str, Reply] = {}
        self.requests: list[str] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(handler.path)
        if handler.path in self.replies:
            self.replies[handler.path](handler)
        elif handler.path == DISCOVERY:
            send(json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}{KEYS}"}).encode())(handler)
        else:
            send(json.dumps(self.jwks).encode())(handler)


def send(body: bytes, status: int = 200, **headers: str) -> Reply:
    """Return a reply with a body."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def dribble(is_over: threading.Event) -> Reply:
    """Return a reply that sends a space now and then until the event is set."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not is_over.is_set():
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    return reply


@contextmanager
def running_issuer(folder: Path) -> Iterator[HttpsIssuer]:
    """Run an issuer on a free port; its files are in a folder."""
    authority, certificate = write_certificates(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                issuer.answer(self)
            except OSError:
                return  # the client has left

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        issuer = HttpsIssuer(server.server_address[1], authority)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()


def write_certificates(folder: Path) -> tuple[Path, Path]:
    """Write an authority's certificate, and the key and certificate of 127.0.0.1 that it signed."""
    own = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Authority")])
    root = builder(name, name, own).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    authority = root.sign(own, hashes.SHA256())
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])
    leaf = builder(subject, name, key).add_extension(here, critical=False).sign(own, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "authority.pem").write_bytes(authority.public_bytes(pem))
    (folder / "issuer.pem").write_bytes(private + leaf.public_bytes(pem))
    return folder / "authority.pem", folder / "issuer.pem"


def builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
