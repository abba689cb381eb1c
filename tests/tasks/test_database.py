"""The database: what it keeps, what it undoes, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import select

from tasks.database import Database
from tasks.events import NoticeGiven
from tasks.records import TaskRecord
from tasks.tables import TASKS, new_task, row_of
from tests.tasks.conftest import Shelf

pytestmark = pytest.mark.anyio


def task(prompt: str, id: str | None = None) -> TaskRecord:
    """A new row."""
    record = new_task(provider="tiny", sandbox=True, request={}, prompt=prompt, fingerprint="x")
    return record if id is None else record.model_copy(update={"id": id})


def insert(connection: Connection, record: TaskRecord) -> None:
    """Insert a row."""
    connection.execute(TASKS.insert(), row_of(record))


async def write(database: Database, record: TaskRecord) -> None:
    """Insert a row."""
    await database.write(lambda connection: insert(connection, record))


async def prompts(database: Database) -> list[str]:
    """The rows that are there."""
    statement = select(TASKS.c.prompt).order_by(TASKS.c.number)
    return await database.read(lambda connection: list(connection.execute(statement).scalars()))


async def test_times_come_back_aware_and_in_utc(shelf: Shelf) -> None:
    claimed = await shelf.claimed()
    elsewhere = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    await shelf.journal.append(claimed, NoticeGiven("x", None), finished_at=elsewhere)

    found = await shelf.history.task(claimed.id)
    assert found is not None
    assert found.finished_at == elsewhere
    assert found.finished_at.tzinfo is UTC


async def test_a_time_without_a_zone_is_never_stored(shelf: Shelf) -> None:
    claimed = await shelf.claimed()
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - that is the mistake
    with pytest.raises(StatementError, match="time zone"):
        await shelf.journal.append(claimed, NoticeGiven("x", None), finished_at=naive)


async def test_work_that_fails_is_undone_alone_and_its_caller_hears_why(shelf: Shelf) -> None:
    def fail(connection: Connection) -> None:
        insert(connection, task("undone"))
        raise LookupError("no such thing")

    def break_a_rule(connection: Connection) -> None:
        insert(connection, task("broken", id="same"))

    await write(shelf.database, task("first", id="same"))
    ends = await asyncio.gather(
        write(shelf.database, task("second")),
        shelf.database.write(fail),
        write(shelf.database, task("third")),
        shelf.database.write(break_a_rule),
        write(shelf.database, task("fourth")),
        return_exceptions=True,
    )

    assert [type(end) for end in ends] == [type(None), LookupError, type(None), IntegrityError, type(None)]
    assert sorted(await prompts(shelf.database)) == ["first", "fourth", "second", "third"]


async def test_a_caller_that_is_cancelled_disturbs_nobody(shelf: Shelf) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        insert(connection, task("begun"))
        begun.set()
        go_on.wait(20)

    cancelled = asyncio.create_task(shelf.database.write(slow))
    await asyncio.to_thread(begun.wait, 20)
    others = [asyncio.create_task(write(shelf.database, task(f"other {n}"))) for n in range(3)]
    await asyncio.sleep(0)
    cancelled.cancel()
    go_on.set()
    await asyncio.gather(*others)
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await shelf.database.write(lambda connection: None)

    # What had begun when its caller was cancelled is done.
    assert sorted(await prompts(shelf.database)) == ["begun", "other 0", "other 1", "other 2"]


async def test_what_has_been_asked_for_is_done_before_closing(database_url: str) -> None:
    database = Database(database_url)
    await database.migrate()
    asked = [asyncio.create_task(write(database, task("asked"))) for _ in range(20)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*asked)
    with pytest.raises(RuntimeError):
        await database.write(lambda connection: None)

    again = Database(database_url)
    assert len(await prompts(again)) == 20
    await again.close()


async def test_errors_do_not_show_what_was_to_be_written(shelf: Shelf) -> None:
    await write(shelf.database, task("x", id="same"))
    with pytest.raises(IntegrityError) as refused:
        await write(shelf.database, task("a secret prompt", id="same"))

    assert "a secret prompt" not in str(refused.value)


async def test_a_reader_sees_one_state_of_the_database(shelf: Shelf) -> None:
    looked, written = threading.Event(), threading.Event()

    def look_twice(connection: Connection) -> list[int]:
        count = text("select count(*) from task")
        before = connection.execute(count).scalar_one()
        looked.set()
        written.wait(20)
        return [before, connection.execute(count).scalar_one()]

    looking = asyncio.create_task(shelf.database.read(look_twice))
    await asyncio.to_thread(looked.wait, 20)
    await write(shelf.database, task("meanwhile"))
    written.set()

    assert await looking == [0, 0]
