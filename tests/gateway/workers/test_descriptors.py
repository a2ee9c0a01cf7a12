"""The limit of open files: how many connections it allows, and connections beyond it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from turnout.gateway.shared.state import SharedState
from turnout.gateway.workers.channel import Channel
from turnout.gateway.workers.descriptors import connections_allowed, count_open, refuse_connection
from turnout.gateway.workers.workers import MOST_TRIES, Workers


@pytest.mark.parametrize(
    ("limit", "open_now", "allowed"),
    [(1 << 20, 20, 4096), (8192, 20, 4096), (4096, 20, 3036), (1024, 20, 732), (64, 12, 20), (40, 20, 0), (3, 20, 0)],
)
def test_connections_leave_descriptors_for_other_files(limit: int, open_now: int, allowed: int) -> None:
    assert connections_allowed(4096, limit, open_now) == allowed


def test_open_files_are_counted() -> None:
    before = count_open()
    one, other = socket.socketpair()
    assert count_open() == before + 2
    one.close()
    other.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"])
def test_a_rejected_client_can_read_its_answer(sent: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        client.sendall(sent)
        refuse_connection(listener.accept()[0])
        client.settimeout(30)
        answer = b""
        while piece := client.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in answer


class FakeChannel:
    """A channel that fails with some errors, then accepts everything."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.tries = 0

    def try_send(self, kind: str, *values: Any, files: Sequence[int] = ()) -> bool:
        self.tries += 1
        if self.errors:
            raise OSError(self.errors.pop(0), "no")
        return True


def handing_out(channel: FakeChannel, *, capacity: int = 10) -> tuple[Workers, SharedState]:
    state = SharedState(1)
    workers = Workers(state, lambda number, channel: 0, lambda: None, capacity=capacity)
    entry = workers.rows[0]
    entry.pid, entry.is_ready, entry.channel = os.getpid(), True, channel  # type: ignore[assignment]
    return workers, state


@pytest.mark.parametrize("number", [errno.ETOOMANYREFS, errno.EMFILE, errno.ENOBUFS])
def test_a_worker_stays_ready_while_no_descriptor_can_be_sent(number: int) -> None:
    workers, state = handing_out(FakeChannel(number, number))
    one, other = socket.socketpair()
    with one, other:
        workers.give([one])
        assert workers.rows[0].is_ready
        assert state.open_connections(0) == 1
        assert one.fileno() == -1, "it is handed out"


def test_a_connection_that_cannot_be_sent_for_long_is_rejected_and_not_counted() -> None:
    channel = FakeChannel(*[errno.ETOOMANYREFS] * 1000)
    workers, state = handing_out(channel)
    one, other = socket.socketpair()
    with one, other:
        workers.give([one])
        assert other.recv(4096).startswith(b"HTTP/1.1 503 ")
    assert channel.tries == MOST_TRIES + 1
    assert workers.rows[0].is_ready
    assert state.open_connections(0) == 0


def test_a_worker_with_a_closed_channel_is_not_ready() -> None:
    workers, state = handing_out(FakeChannel(errno.EPIPE))
    one, other = socket.socketpair()
    with one, other:
        workers.give([one])
        assert not workers.rows[0].is_ready
        assert state.open_connections(0) == 0
        assert one.fileno() >= 0, "it waits for a worker"


def test_a_connection_beyond_the_limit_of_all_workers_is_rejected_until_one_closes() -> None:
    workers, state = handing_out(FakeChannel(), capacity=2)
    pairs = [socket.socketpair() for _ in range(4)]
    workers.give([pair[0] for pair in pairs[:3]])
    assert pairs[2][1].recv(4096).startswith(b"HTTP/1.1 503 ")
    assert state.open_connections(0) == 2
    state.drop_connection(0)
    workers.give([pairs[3][0]])
    assert state.open_connections(0) == 2
    for pair in pairs:
        for end in pair:
            end.close()


def test_a_receiver_without_descriptors_learns_how_many_were_sent() -> None:
    """The kernel closes what it cannot pass on: only the number in the message shows it."""
    one, other = Channel.pair()
    assert one.try_send("connections", 1, files=())
    message = other.receive()
    assert message is not None
    assert (message.values, message.files) == ((1,), ())
    one.close()
    other.close()
