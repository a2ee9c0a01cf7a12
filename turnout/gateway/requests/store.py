"""The operations on the queue, each a job for one transaction: read a row, apply a step of `states`, write it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping
from typing import Any

from turnout.gateway.requests.files import Content
from turnout.gateway.requests.rows import (
    Claim,
    NewRequest,
    Stored,
    StoredAnswer,
    progress_values,
    read_progress,
    read_stored,
)
from turnout.protocol.requests import states
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.states import Progress, RequestState

MOST_WAITING = 100_000
"""Most waiting requests of a stage. Further requests get a 503."""

_STORED = "SELECT * FROM requests WHERE stage = ? AND id = ?"


def accept(connection: sqlite3.Connection, new: NewRequest, max_stored_bytes: int, upload: str = "") -> None:
    """Store a request.

    Args:
        connection: in a transaction.
        new: the request.
        max_stored_bytes: the stage's limit.
        upload: the upload whose content is the request's body, or empty. It is deleted.

    Raises:
        Refusal: IDENTIFIER_TAKEN, QUEUE_FULL, STORAGE_FULL or UNKNOWN_UPLOAD.
    """
    if find(connection, new.stage, new.id) is not None:
        raise Refusal("IDENTIFIER_TAKEN", f"the identifier {new.id} belongs to another request", id=new.id)
    if upload and not connection.execute("DELETE FROM uploads WHERE id = ?", (upload,)).rowcount:
        raise Refusal("UNKNOWN_UPLOAD", f"there is no upload {upload}: it expired, or is another request's body")
    check_room(connection, new.stage, new.size, max_stored_bytes, waiting=True)
    values = {
        **progress_values(new.progress),
        "id": new.id,
        "stage": new.stage,
        "key_id": new.key_id,
        "fingerprint": new.fingerprint,
        "function": new.function,
        "alias": new.alias,
        "is_canary": new.is_canary,
        "model": new.model,
        "version": new.version,
        "path": new.path,
        "event": new.event,
        "body": new.body.data,
        "body_file": new.body.file,
        "body_bytes": new.body.size,
        "max_answer_bytes": new.max_answer_bytes,
        "callback": new.callback,
        "callback_private": new.callback_private,
        "size": new.size,
    }
    names, placeholders = ", ".join(values), ", ".join(f":{name}" for name in values)
    connection.execute(f"INSERT INTO requests ({names}) VALUES ({placeholders})", values)  # noqa: S608 - our own names


def check_room(
    connection: sqlite3.Connection, stage: str, size: int, max_stored_bytes: int, *, waiting: bool = False
) -> None:
    """Reject a request that exceeds the stage's limits.

    Raises:
        Refusal: QUEUE_FULL or STORAGE_FULL.
    """
    row = connection.execute("SELECT bytes, waiting FROM usage WHERE stage = ?", (stage,)).fetchone()
    stored, waits = (row["bytes"], row["waiting"]) if row is not None else (0, 0)
    if waiting and waits >= MOST_WAITING:
        raise Refusal("QUEUE_FULL", f"{waits} requests wait in the stage {stage}: try again later", waiting=waits)
    if stored + size > max_stored_bytes:
        message = (
            f"the stage {stage} stores {stored} bytes of requests, {max_stored_bytes} are allowed: wait until some "
            "expire, or raise `async.max_stored_mb`"
        )
        raise Refusal("STORAGE_FULL", message, stored=stored, allowed=max_stored_bytes)


def find(connection: sqlite3.Connection, stage: str, identifier: str) -> Stored | None:
    """The request with an identifier, or None."""
    row = connection.execute(_STORED, (stage, identifier)).fetchone()
    return None if row is None else read_stored(row)


def stages_of(connection: sqlite3.Connection, identifier: str) -> list[str]:
    """Return the stages that have a request of this identifier."""
    rows = connection.execute("SELECT DISTINCT stage FROM requests WHERE id = ? ORDER BY stage", (identifier,))
    return [row[0] for row in rows]


def list_requests(
    connection: sqlite3.Connection, *, stages: Collection[str] = (), wanted: Collection[str] = (), most: int = 1000
) -> list[Stored]:
    """List requests, newest first, of the named stages and states, or of all."""
    clauses, values = [], []
    for column, names in (("stage", stages), ("state", wanted)):
        if names:
            clauses.append(f"{column} IN ({', '.join('?' * len(names))})")
            values += list(names)
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    rows = connection.execute(
        f"SELECT * FROM requests {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608 - only our own names
        (*values, most),
    )
    return [read_stored(row) for row in rows]


def cancel(connection: sqlite3.Connection, stage: str, identifier: str, now: float) -> Stored | None:
    """Cancel a request that has not started. Return None if it does not exist.

    Raises:
        StepError: it has started, or ended.
    """
    there = find(connection, stage, identifier)
    if there is None:
        return None
    _write(connection, there.seq, states.cancel(there.progress, now))
    return find(connection, stage, identifier)


def redrive(connection: sqlite3.Connection, stage: str, identifier: str, now: float) -> Stored | None:
    """Requeue a request that ended without an answer. Return None if it does not exist.

    Raises:
        StepError: it has not ended, or has an answer.
    """
    there = find(connection, stage, identifier)
    if there is None:
        return None
    _write(
        connection,
        there.seq,
        states.redrive(there.progress, now),
        status=0,
        headers="[]",
        answer=None,
        answer_file="",
        answer_bytes=0,
        answer_sha256="",
        failure="{}",
        callback_state="",
    )
    connection.execute("UPDATE requests SET size = size - ? WHERE seq = ?", (there.answer.content.size, there.seq))
    return find(connection, stage, identifier)


def claim(
    connection: sqlite3.Connection,
    owner: int,
    now: float,
    *,
    most: int,
    most_running: int,
    max_stored_bytes: Mapping[str, int],
) -> list[Claim]:
    """Start runs of the requests that have waited longest.

    Args:
        connection: in a transaction.
        owner: this process's number.
        now: the time.
        most: the largest number of runs to start.
        most_running: the largest number of runs in all processes.
        max_stored_bytes: stage -> its limit. A stage over its limit starts no runs.
    """
    running = connection.execute("SELECT count(*) FROM requests WHERE state = 'running'").fetchone()[0]
    room = min(most, most_running - running)
    if room <= 0:
        return []
    full = [
        row["stage"]
        for row in connection.execute("SELECT stage, bytes FROM usage")
        if row["bytes"] > max_stored_bytes.get(row["stage"], row["bytes"])
    ]
    rows = connection.execute(  # only placeholders are formatted in
        "SELECT * FROM requests WHERE state = 'queued' AND not_before <= ? AND expires > ? "  # noqa: S608
        f"AND stage NOT IN ({', '.join('?' * len(full))}) ORDER BY not_before, seq LIMIT ?",
        (now, now, *full, room),
    ).fetchall()
    claims = []
    for row in rows:
        begun = states.begin(read_progress(row), now)
        _write(connection, row["seq"], begun, owner=owner)
        content = Content(row["body"] or b"", row["body_file"], row["body_bytes"])
        claims.append(
            Claim(
                row["seq"],
                owner,
                begun.attempts,
                row["id"],
                row["stage"],
                row["function"],
                row["alias"],
                bool(row["is_canary"]),
                row["event"],
                content,
                row["max_answer_bytes"],
            )
        )
    return claims


def finish(
    connection: sqlite3.Connection,
    claimed: Claim,
    step: Callable[[Progress], Progress],
    answer: StoredAnswer,
    now: float,
) -> bool:
    """End a run and store its answer. Return False if another process has taken over the request.

    Args:
        connection: in a transaction.
        claimed: the run.
        step: the step that ends it.
        answer: stored if the request has ended, or as the reason of the last failure.
        now: the time.
    """
    row = connection.execute(
        "SELECT * FROM requests WHERE seq = ? AND state = 'running' AND owner = ? AND attempts = ?",
        (claimed.seq, claimed.owner, claimed.attempt),
    ).fetchone()
    if row is None:
        return False
    after = step(read_progress(row))
    is_kept = after.has_ended
    _write(
        connection,
        claimed.seq,
        after,
        owner=0,
        status=answer.status if is_kept else 0,
        headers=json.dumps(answer.headers) if is_kept else "[]",
        answer=answer.content.data if is_kept else None,
        answer_file=answer.content.file if is_kept else "",
        answer_bytes=answer.content.size if is_kept else 0,
        answer_sha256=answer.sha256 if is_kept else "",
        version=answer.version or row["version"],
        failure=json.dumps(dict(answer.failure)),
        size=row["size"] + (answer.content.size if is_kept else 0),
        **_calls_back(row, after, now),
    )
    return True


def find_gone(connection: sqlite3.Connection, is_gone: Callable[[int], bool]) -> list[int]:
    """Return the owners that have ended but still own running requests."""
    owners = [row[0] for row in connection.execute("SELECT DISTINCT owner FROM requests WHERE state = 'running'")]
    return sorted(owner for owner in owners if is_gone(owner))


def take_from_gone(connection: sqlite3.Connection, is_gone: Callable[[int], bool], now: float) -> int:
    """End the runs of processes that have ended, and return their number."""
    taken = 0
    for owner in find_gone(connection, is_gone):
        rows = connection.execute("SELECT * FROM requests WHERE state = 'running' AND owner = ?", (owner,)).fetchall()
        for row in rows:
            progress = read_progress(row)
            after = states.fail(progress, now)
            attempts = "1 time" if progress.attempts == 1 else f"{progress.attempts} times"
            failure = {
                "error": f"the process that ran the request ended, {attempts}",
                "code": "PROCESS_ENDED",
                "details": {"attempts": progress.attempts},
            }
            _write(connection, row["seq"], after, owner=0, failure=json.dumps(failure), **_calls_back(row, after, now))
            taken += 1
        connection.execute("DELETE FROM owners WHERE id = ?", (owner,))
    return taken


def give_back_all(connection: sqlite3.Connection, owner: int, now: float) -> None:
    """Queue again the requests that a stopping process runs."""
    for row in connection.execute("SELECT * FROM requests WHERE state = 'running' AND owner = ?", (owner,)).fetchall():
        _write(connection, row["seq"], states.give_back(read_progress(row), now), owner=0)
    connection.execute("DELETE FROM owners WHERE id = ?", (owner,))


def expire(connection: sqlite3.Connection, now: float, most: int = 500) -> list[str]:
    """Expire requests that waited too long, delete old ones, and return the files that can be deleted."""
    late = connection.execute(
        "SELECT * FROM requests WHERE expires <= ? AND state = 'queued' LIMIT ?", (now, most)
    ).fetchall()
    for row in late:
        after = states.expire(read_progress(row), now)
        failure = json.loads(row["failure"]) or {
            "error": "the request waited longer than its time to live",
            "code": "EXPIRED",
            "details": {},
        }
        _write(connection, row["seq"], after, failure=json.dumps(failure), **_calls_back(row, after, now))
    old = connection.execute(
        "SELECT * FROM requests WHERE expires <= ? AND state NOT IN ('queued', 'running') LIMIT ?", (now, most)
    ).fetchall()
    files = []
    for row in old:
        if states.is_forgotten(read_progress(row), now):
            files += [name for name in (row["body_file"], row["answer_file"]) if name]
            connection.execute("DELETE FROM requests WHERE seq = ?", (row["seq"],))
    for row in connection.execute("SELECT id FROM uploads WHERE expires <= ? LIMIT ?", (now, most)).fetchall():
        connection.execute("DELETE FROM uploads WHERE id = ?", (row["id"],))
        files.append(row["id"])
    return files


def has_work(connection: sqlite3.Connection, now: float) -> bool:
    """Whether a request may start."""
    due = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM requests WHERE state = 'queued' AND not_before <= ?)", (now,)
    )
    return bool(due.fetchone()[0])


def has_callback(connection: sqlite3.Connection, now: float) -> bool:
    """Whether a webhook is due."""
    due = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM requests WHERE callback_state = 'waiting' AND callback_at <= ?)", (now,)
    )
    return bool(due.fetchone()[0])


def files_in_use(connection: sqlite3.Connection) -> set[str]:
    """The names of all files that rows refer to."""
    rows = connection.execute(
        "SELECT body_file FROM requests WHERE body_file <> '' UNION "
        "SELECT answer_file FROM requests WHERE answer_file <> '' UNION SELECT id FROM uploads"
    )
    return {row[0] for row in rows}


def _calls_back(row: sqlite3.Row, after: Progress, now: float) -> dict[str, Any]:
    """Columns that make the webhook due, if the request has one and has ended."""
    if not row["callback"] or not after.has_ended or after.state is RequestState.CANCELED:
        return {}
    return {"callback_state": "waiting", "callback_tries": 0, "callback_at": now}


def _write(connection: sqlite3.Connection, seq: int, progress: Progress, **others: Any) -> None:
    values = {**progress_values(progress), **others}
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(f"UPDATE requests SET {assignments} WHERE seq = :seq", {**values, "seq": seq})  # noqa: S608
