"""The SQLite database of the queue: its tables, and a thread that runs jobs on it in groups.

All workers and commands open the same file. A commit waits for the disk, so waiting jobs share one commit.
docs/decisions/0013-queue.md explains the choice of SQLite.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

log = logging.getLogger("turnout.requests")

FILE_NAME = "queue.sqlite3"

MOST_TOGETHER = 64
"""Most jobs in one transaction."""

BUSY_S = 30.0
"""How long a transaction waits for one of another process."""

VERSION = 1
"""Version of the tables. A database of another version is rejected."""

TABLES = """
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    stage TEXT NOT NULL,
    id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    accepted REAL NOT NULL,
    expires REAL NOT NULL,
    time_to_live_s REAL NOT NULL,
    max_attempts INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    not_before REAL NOT NULL,
    begun REAL,
    ended REAL,
    owner INTEGER NOT NULL DEFAULT 0,
    function TEXT NOT NULL,
    alias TEXT NOT NULL,
    is_canary INTEGER NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    path TEXT NOT NULL,
    event BLOB NOT NULL,
    body BLOB,
    body_file TEXT NOT NULL DEFAULT '',
    body_bytes INTEGER NOT NULL,
    max_answer_bytes INTEGER NOT NULL,
    status INTEGER NOT NULL DEFAULT 0,
    headers TEXT NOT NULL DEFAULT '[]',
    answer BLOB,
    answer_file TEXT NOT NULL DEFAULT '',
    answer_bytes INTEGER NOT NULL DEFAULT 0,
    answer_sha256 TEXT NOT NULL DEFAULT '',
    failure TEXT NOT NULL DEFAULT '{}',
    callback TEXT NOT NULL DEFAULT '',
    callback_private INTEGER NOT NULL DEFAULT 0,
    callback_state TEXT NOT NULL DEFAULT '',
    callback_tries INTEGER NOT NULL DEFAULT 0,
    callback_at REAL NOT NULL DEFAULT 0,
    size INTEGER NOT NULL,
    UNIQUE (stage, id)
);
CREATE INDEX by_state ON requests (state, not_before);
CREATE INDEX by_expiry ON requests (expires);
CREATE INDEX by_callback ON requests (callback_state, callback_at) WHERE callback_state = 'waiting';
CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    stage TEXT NOT NULL,
    key_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    part_bytes INTEGER NOT NULL,
    expires REAL NOT NULL
);
CREATE TABLE owners (id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE usage (stage TEXT PRIMARY KEY, bytes INTEGER NOT NULL, waiting INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER request_made AFTER INSERT ON requests BEGIN
    INSERT INTO usage VALUES (new.stage, new.size, new.state = 'queued')
    ON CONFLICT (stage) DO UPDATE SET bytes = bytes + excluded.bytes, waiting = waiting + excluded.waiting;
END;
CREATE TRIGGER request_changed AFTER UPDATE OF state, size ON requests BEGIN
    UPDATE usage SET bytes = bytes + new.size - old.size,
        waiting = waiting + (new.state = 'queued') - (old.state = 'queued') WHERE stage = new.stage;
END;
CREATE TRIGGER request_gone AFTER DELETE ON requests BEGIN
    UPDATE usage SET bytes = bytes - old.size, waiting = waiting - (old.state = 'queued') WHERE stage = old.stage;
END;
CREATE TRIGGER upload_made AFTER INSERT ON uploads BEGIN
    INSERT INTO usage VALUES (new.stage, new.size, 0)
    ON CONFLICT (stage) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER upload_gone AFTER DELETE ON uploads BEGIN
    UPDATE usage SET bytes = bytes - old.size WHERE stage = old.stage;
END;
"""

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]


class _Waiting(NamedTuple):
    job: Job[Any]
    reads: bool
    is_durable: bool
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class DatabaseError(Exception):
    """The queue's database cannot be used; the message says why."""


def connect(folder: Path) -> sqlite3.Connection:
    """Open the database in a folder, and create both if needed.

    Raises:
        DatabaseError: it cannot be opened, or another release of Turnout made it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(folder), contextlib.ExitStack() as on_failure:
            connection = sqlite3.connect(folder / FILE_NAME, timeout=BUSY_S, isolation_level=None)
            on_failure.callback(connection.close)
            _set_up(connection, folder)
            on_failure.pop_all()
    except (OSError, sqlite3.Error) as error:
        raise DatabaseError(f"{folder / FILE_NAME} cannot be opened: {error}") from error
    return connection


def _set_up(connection: sqlite3.Connection, folder: Path) -> None:
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA synchronous = FULL")
    with transaction(connection):
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            _make_tables(connection)
    if version not in {0, VERSION}:
        raise DatabaseError(
            f"{folder / FILE_NAME} was made by another release of Turnout: use that release, or delete the folder"
        )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Stop other processes from opening the database during the block: SQLite does not wait for a change to WAL."""
    file = os.open(folder / "open.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _make_tables(connection: sqlite3.Connection) -> None:
    statement = ""
    for line in TABLES.splitlines():  # not executescript, which commits first
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(f"PRAGMA user_version = {VERSION}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, *, reads: bool = False) -> Iterator[None]:
    """Run statements in one transaction, which is rolled back if they raise an error."""
    connection.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk may have caused a rollback already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


class Database:
    """Runs jobs on the database in its own thread, which starts with the first job, so it can be created before a fork.

    Args:
        folder: the database's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, job: Job[T], *, reads: bool = False, is_durable: bool = True) -> asyncio.Future[T]:
        """Run a job in a transaction, and return its result when that is committed.

        Args:
            job: must not commit. If it raises an error, its own changes are undone and no others.
            reads: whether it changes nothing.
            is_durable: whether it must survive a power cut. Other jobs do not wait for the disk; the next durable
                commit makes them durable, too.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="requests", daemon=True)
            self._thread.start()
        self._jobs.put(_Waiting(job, reads, is_durable, future, loop))
        return future

    def close(self, patience_s: float) -> None:
        """Finish the waiting jobs and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join(patience_s)

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        while (first := self._jobs.get()) is not None:
            group, is_last = self._gather(first)
            try:
                if connection is None:
                    connection = connect(self.folder)
                settled = _run_group(connection, group)
            except (DatabaseError, sqlite3.Error) as error:
                settled = [(row, None, error) for row in group]
            for row, result, problem in settled:
                with contextlib.suppress(RuntimeError):  # the caller's loop is closed
                    row.loop.call_soon_threadsafe(_settle, row.future, result, problem)
            if is_last:
                break
        if connection is not None:
            connection.close()

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        group = [first]
        with contextlib.suppress(Empty):
            while len(group) < MOST_TOGETHER:
                row = self._jobs.get_nowait()
                if row is None:
                    return group, True
                group.append(row)
        return group, False


def _run_group(
    connection: sqlite3.Connection, group: list[_Waiting]
) -> list[tuple[_Waiting, Any, BaseException | None]]:
    settled: list[tuple[_Waiting, Any, BaseException | None]] = []
    with _durability(connection, group), transaction(connection, reads=all(row.reads for row in group)):
        for row in group:
            connection.execute("SAVEPOINT job")
            try:
                settled.append((row, row.job(connection), None))
            except sqlite3.OperationalError:
                raise  # perhaps a full disk, which affects all of them
            except Exception as error:
                connection.execute("ROLLBACK TO job")
                settled.append((row, None, error))
            connection.execute("RELEASE job")
    return settled


@contextlib.contextmanager
def _durability(connection: sqlite3.Connection, group: list[_Waiting]) -> Iterator[None]:
    """Commit a group without waiting for the disk if none of its jobs is durable."""
    waits = any(row.reads or row.is_durable for row in group)
    if not waits:
        connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        if not waits:
            connection.execute("PRAGMA synchronous = FULL")


def _settle(future: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    if future.done():
        return
    if problem is None:
        future.set_result(result)
    else:
        future.set_exception(problem)


OWNERS_FILE = "owners.lock"
"""Each process that runs requests locks one byte of this file. The kernel releases the lock when the process ends, in
whatever way. No timeout is involved: a process that is suspended for an hour keeps its requests."""


class QueueOwner:
    """This process as an owner of requests. Created after a fork, in a transaction, once per process.

    Args:
        connection: a connection to the queue's database.
        folder: the queue's folder.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        # POSIX locks are not inherited by children and end when this process closes the file, so it is opened only
        # once.
        self._file = os.open(folder / OWNERS_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        number = connection.execute("INSERT INTO owners DEFAULT VALUES").lastrowid
        assert number is not None
        self.id = number
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self.id)

    def is_gone(self, other: int) -> bool:
        """Whether another owner has ended."""
        if other == self.id:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, other)
        except BlockingIOError:
            return False
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, other)
        return True

    def close(self) -> None:
        """Release the lock, so that other processes take over the remaining requests."""
        os.close(self._file)
