"""Sockets bound before they listen."""

from __future__ import annotations

import errno
import socket

import pytest

from turnout.gateway.sockets import bind_sockets


def test_a_free_port_is_bound_without_listening() -> None:
    (bound,) = bind_sockets("127.0.0.1", 0)
    with bound:
        host, port = bound.getsockname()
        assert (host, port > 0) == ("127.0.0.1", True)
        with socket.socket() as client:
            assert client.connect_ex((host, port)) == errno.ECONNREFUSED


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use") as caught:
        bind_sockets("127.0.0.1", taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


def test_a_port_that_was_just_released_can_be_bound_again() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    accepted, _ = server.accept()
    accepted.close()  # closed first by the server: its side waits a minute
    client.close()
    server.close()
    for bound in bind_sockets("127.0.0.1", port):
        bound.close()


def test_an_unknown_host_is_an_error() -> None:
    with pytest.raises(OSError):  # noqa: PT011 - the message is the system's
        bind_sockets("no.such.host.invalid", 0)


def test_every_address_of_a_host_is_bound() -> None:
    (first,) = bind_sockets("localhost", 0)
    port = first.getsockname()[1]
    first.close()
    addresses = {address for *_, address in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
    sockets = bind_sockets("localhost", port)
    assert {bound.getsockname() for bound in sockets} == addresses
    for bound in sockets:
        bound.close()
