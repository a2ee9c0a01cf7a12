"""Where webhooks may be sent, how they are signed, and when they are retried."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

from tests.builders.loopback_server import QuietHandler, loopback_server
from tests.builders.queued_requests import new_request
from turnout.gateway.requests import store
from turnout.gateway.requests.database import connect, transaction
from turnout.gateway.requests.rows import StoredAnswer
from turnout.gateway.requests.webhooks import Delivery, claim_deliveries, deliver, end_delivery
from turnout.manifest.values import Asynchronous
from turnout.protocol.requests import states
from turnout.protocol.requests.callbacks import check_callback
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.webhooks import MOST_TRIES, CallbackError, check_address_is_public, webhook_secret

PUBLIC = Asynchronous(callback_hosts=("hooks.example.com", "other.example.com:8443"))
PRIVATE = replace(PUBLIC, allow_private_callbacks=True, callback_hosts=("10.0.0.1", "localhost:8000"))


@pytest.mark.parametrize(
    ("address", "policy"),
    [
        ("https://hooks.example.com/done?x=1", PUBLIC),
        ("https://hooks.example.com:443/", PUBLIC),
        ("https://other.example.com:8443/", PUBLIC),
        ("http://localhost:8000/", PRIVATE),
        ("https://10.0.0.1/", PRIVATE),
    ],
)
def test_callback_to_a_named_host_is_allowed(address: str, policy: Asynchronous) -> None:
    check_callback(address, policy)


@pytest.mark.parametrize(
    "address",
    [
        "http://hooks.example.com/",
        "https://hooks.example.com:8443/",
        "https://other.example.com/",
        "https://hooks.example.com@evil.example/",
        "https://evil.example#hooks.example.com",
        "https://hooks.example.com.evil.example/",
        "https://hooks.example.com:x/",
        "https://hooks.example.com/\u00e9",
        "file:///etc/passwd",
        "hooks.example.com",
        "https://user@hooks.example.com/",
    ],
)
def test_callback_to_any_other_host_is_rejected(address: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_callback(address, PUBLIC)
    assert refused.value.code == "INVALID_CALLBACK"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "10.1"])
def test_private_address_is_rejected_in_every_notation(host: str) -> None:
    with pytest.raises(Refusal, match=f"the callback's host {host} is a private address"):
        check_callback(f"https://{host}/", replace(PUBLIC, callback_hosts=(host,)))
    check_callback(f"https://{host}/", replace(PRIVATE, callback_hosts=(host,)))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b:1::1",
        "64:ff9b::10.0.0.1",
    ],
)
def test_private_addresses_are_not_called(address: str) -> None:
    with pytest.raises(CallbackError, match="not a public address"):
        check_address_is_public(address, may_be_private=False)
    check_address_is_public(address, may_be_private=True)


def test_public_addresses_are_called() -> None:
    for address in ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"):
        check_address_is_public(address, may_be_private=False)


class Receiver(QuietHandler):
    """Stores what it receives; answers with the status in its path."""

    port = 0
    received: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(int(self.path.rpartition("=")[2] or 200))
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()


@pytest.fixture(scope="module")
def receiver() -> Iterator[type[Receiver]]:
    with loopback_server(Receiver) as url:
        Receiver.port = urlsplit(url).port or 0
        yield Receiver


def delivery_to(port: int, path: str = "/", *, may_be_private: bool = True) -> Delivery:
    return Delivery(1, 1, f"http://hooks.example.com:{port}{path}", may_be_private, b'{"id":"a"}', "a")


def test_webhook_is_signed(receiver: type[Receiver]) -> None:
    port = receiver.port
    deliver(delivery_to(port, "/done?status=204"), "secret", 1234.5, resolve=lambda *_: ["127.0.0.1"])
    path, headers, body = receiver.received[-1]
    assert (path, headers["host"], body) == ("/done?status=204", f"hooks.example.com:{port}", b'{"id":"a"}')
    expected = hmac.new(webhook_secret("secret").encode(), b"1234." + body, hashlib.sha256).hexdigest()
    assert headers["x-turnout-signature"] == f"t=1234,v1={expected}"


@pytest.mark.parametrize("status", [302, 400, 500])
def test_other_statuses_are_failures(receiver: type[Receiver], status: int) -> None:
    before = len(receiver.received)
    with pytest.raises(CallbackError, match=f"status {status}"):
        deliver(delivery_to(receiver.port, f"/?status={status}"), "s", 1.0, resolve=lambda *_: ["127.0.0.1"])
    assert len(receiver.received) == before + 1


def test_name_that_resolves_to_a_private_address_is_not_called(receiver: type[Receiver]) -> None:
    before = len(receiver.received)
    delivery = delivery_to(receiver.port, may_be_private=False)
    for addresses in (["127.0.0.1"], ["93.184.216.34", "127.0.0.1"]):
        with pytest.raises(CallbackError, match="not a public address"):
            deliver(delivery, "s", 1.0, resolve=lambda *_, addresses=addresses: addresses)
    assert len(receiver.received) == before


@pytest.mark.parametrize("host", ["hooks..example", f"{'a' * 64}.example"])
def test_name_that_cannot_be_resolved_is_a_failed_attempt(host: str) -> None:
    with pytest.raises(CallbackError, match=host):
        deliver(Delivery(1, 1, f"https://{host}/", may_be_private=False, body=b"{}", identifier="a"), "secret", 0)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = connect(tmp_path)
    yield opened
    opened.close()


def test_webhook_is_retried_until_it_is_delivered(connection: sqlite3.Connection) -> None:
    new = new_request("a", callback="https://hooks.example.com/")
    with transaction(connection):
        store.accept(connection, new, 1 << 30)
        assert claim_deliveries(connection, 1.0, 9) == []
        (claim,) = store.claim(connection, 1, 1.0, most=1, most_running=1, max_stored_bytes={})
        store.finish(connection, claim, lambda progress: states.succeed(progress, 2.0), StoredAnswer(200), 2.0)
    now, tries = 2.0, 0
    while store.has_callback(connection, now):
        with transaction(connection):
            (delivery,) = claim_deliveries(connection, now, 9)
            assert claim_deliveries(connection, now, 9) == [], "no other process delivers it meanwhile"
            assert json.loads(delivery.body)["answer"]["address"] == "/dev/requests/a/answer"
            end_delivery(connection, delivery, is_delivered=False)
        now, tries = now + 10_000, tries + 1
        assert delivery.attempt == tries
    assert tries == MOST_TRIES
    stored = store.find(connection, "dev", "a")
    assert stored is not None
    assert stored.description.callback == "failed"
