"""Webhooks of the queue: those that are due, and how each delivery ended."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

import orjson

from turnout.gateway.requests.rows import read_stored
from turnout.protocol.requests.description import api_answer_path, describe
from turnout.protocol.requests.webhooks import ANSWER_S, FIRST_BACK_OFF_S, MOST_TRIES, Resolve, resolve, send_webhook


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that is due.

    Args:
        seq: the request's place in the queue.
        attempt: number of the attempt, from 1.
        address: the destination.
        may_be_private: whether it may be a private address.
        body: the body to send.
        identifier: identifier of the request, for the log.
    """

    seq: int
    attempt: int
    address: str
    may_be_private: bool
    body: bytes
    identifier: str


def claim_deliveries(connection: sqlite3.Connection, now: float, most: int) -> list[Delivery]:
    """Return due webhooks, and postpone their next attempts, so that a process that ends only delays them."""
    rows = connection.execute(
        "SELECT * FROM requests WHERE callback_state = 'waiting' AND callback_at <= ? ORDER BY callback_at LIMIT ?",
        (now, most),
    ).fetchall()
    deliveries = []
    for row in rows:
        stored, attempt = read_stored(row), row["callback_tries"] + 1
        connection.execute(
            "UPDATE requests SET callback_tries = ?, callback_at = ? WHERE seq = ?",
            (attempt, now + FIRST_BACK_OFF_S * 2 ** (attempt - 1) + ANSWER_S, row["seq"]),
        )
        known = stored.description
        address = api_answer_path(f"/{known.stage}", known.id)
        body = orjson.dumps(describe(stored.progress, replace(known, answer_address=address, callback="")))
        private = bool(row["callback_private"])
        deliveries.append(Delivery(row["seq"], attempt, row["callback"], private, body, known.id))
    return deliveries


def end_delivery(connection: sqlite3.Connection, delivery: Delivery, *, is_delivered: bool) -> None:
    """Record that a webhook was delivered, or that no further attempt follows."""
    if is_delivered or delivery.attempt >= MOST_TRIES:
        connection.execute(
            "UPDATE requests SET callback_state = ? WHERE seq = ? AND callback_tries = ?",
            ("delivered" if is_delivered else "failed", delivery.seq, delivery.attempt),
        )


def deliver(delivery: Delivery, secret: str, now: float, *, resolve: Resolve = resolve) -> None:
    """Send a webhook. Blocks.

    Raises:
        CallbackError: it was not delivered.
    """
    send_webhook(delivery.address, delivery.body, secret, now, may_be_private=delivery.may_be_private, resolve=resolve)
