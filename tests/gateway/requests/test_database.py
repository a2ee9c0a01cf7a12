"""Jobs on the queue's database: grouped, rolled back one by one, and durable unless they say otherwise."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnout.gateway.requests.database import FILE_NAME, Database, DatabaseError, QueueOwner, connect, transaction

ADD = "INSERT INTO owners DEFAULT VALUES"
COUNT = "SELECT count(*) FROM owners"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "queue")
    yield made
    made.close(10)


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute(COUNT).fetchone()[0])


def synchronous(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA synchronous").fetchone()[0])


def test_a_job_that_raises_is_rolled_back_alone(database: Database) -> None:
    def add(connection: sqlite3.Connection) -> None:
        connection.execute(ADD)

    def add_and_fail(connection: sqlite3.Connection) -> None:
        connection.execute(ADD)
        raise ValueError("no")

    async def run() -> int:
        results = await asyncio.gather(
            *(database.run(job) for job in (add, add_and_fail, add, add_and_fail)), return_exceptions=True
        )
        assert [type(result) for result in results] == [type(None), ValueError, type(None), ValueError]
        return await database.run(count, reads=True)

    assert asyncio.run(run()) == 2


def test_only_jobs_that_say_so_do_not_wait_for_the_disk(database: Database) -> None:
    async def run() -> list[int]:
        return [
            await database.run(synchronous),
            await database.run(synchronous, is_durable=False),
            await database.run(synchronous),
        ]

    assert asyncio.run(run()) == [2, 1, 2]


def test_several_processes_may_open_it_at_once(tmp_path: Path) -> None:
    databases = [Database(tmp_path / "queue") for _ in range(8)]

    async def run() -> None:
        await asyncio.gather(*(database.run(lambda connection: connection.execute(ADD)) for database in databases))

    asyncio.run(run())
    for database in databases:
        database.close(10)
    connection = connect(tmp_path / "queue")
    assert count(connection) == 8
    connection.close()


def test_database_of_another_release_is_rejected(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DatabaseError, match="another release"):
        connect(tmp_path)


def test_closed_owner_is_gone(tmp_path: Path) -> None:
    connection = connect(tmp_path)
    with transaction(connection):
        owner = QueueOwner(connection, tmp_path)
    assert not owner.is_gone(owner.id), "oneself is there"
    assert owner.is_gone(owner.id + 1)
    owner.close()
    connection.close()
