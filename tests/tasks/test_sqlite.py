"""What is special about SQLite: one commit for all who wait, and a disk that may be full."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from tasks import sqlite
from tasks.database import Database
from tasks.errors import DatabaseUnavailableError
from tasks.records import TaskRecord
from tests.tasks.test_database import prompts, task, write

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """With its tables."""
    database = Database(f"sqlite:///{tmp_path / 'darkroom.db'}")
    await database.migrate()
    yield database
    await database.close()


class Busy:
    """Keeps the writer busy, so that all that is asked for meanwhile is done together."""

    def __init__(self, database: Database) -> None:
        self._go_on = threading.Event()
        self._begun = threading.Event()
        self._database = database
        self._writing = asyncio.create_task(database.write(self._wait))

    def _wait(self, connection: Connection) -> None:
        self._begun.set()
        self._go_on.wait(20)

    async def ask(self, *records: TaskRecord) -> list[asyncio.Task[None]]:
        """Ask for rows."""
        await asyncio.to_thread(self._begun.wait, 20)
        asked = [asyncio.create_task(write(self._database, record)) for record in records]
        await asyncio.sleep(0)
        return asked

    async def until(self, asked: list[asyncio.Task[None]]) -> list[BaseException | None]:
        """Let all of them go; how they ended."""
        self._go_on.set()
        await self._writing
        return await asyncio.gather(*asked, return_exceptions=True)


async def test_what_was_committed_survives_a_power_cut(database: Database) -> None:
    def read(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names]

    assert await database.write(read) == ["wal", 2, 1]


async def test_all_who_wait_share_a_commit_in_the_order_in_which_they_came(database: Database) -> None:
    said: list[str] = []

    def listen(connection: Connection) -> None:
        driver = cast(sqlite3.Connection, connection.connection.dbapi_connection)
        driver.set_trace_callback(said.append)

    await database.write(listen)
    busy = Busy(database)
    await busy.until(await busy.ask(*(task(str(number)) for number in range(100))))

    assert await prompts(database) == [str(number) for number in range(100)]
    # The one that kept it busy, then 64 together, then the rest.
    assert [words for words in said if words.startswith("BEGIN")] == 3 * ["BEGIN IMMEDIATE"]


async def test_one_of_many_that_fails_is_undone_alone(database: Database) -> None:
    busy = Busy(database)
    asked = await busy.ask(task("first", id="same"), task("second", id="same"), task("third"))
    ends = await busy.until(asked)

    assert [type(end) for end in ends] == [type(None), IntegrityError, type(None)]
    assert await prompts(database) == ["first", "third"]


async def test_who_is_cancelled_before_it_begins_is_not_done(database: Database) -> None:
    busy = Busy(database)
    asked = await busy.ask(*(task(str(number)) for number in range(3)))
    asked[1].cancel()
    ends = await busy.until(asked)

    assert isinstance(ends[1], asyncio.CancelledError)
    assert await prompts(database) == ["0", "2"]


async def test_a_full_disk_undoes_all_who_were_written_together_and_they_can_try_again(database: Database) -> None:
    records = [task("small"), task("large" * 100_000), task("small too")]

    def limit(connection: Connection, pages: int) -> None:
        connection.execute(text(f"PRAGMA max_page_count={pages}"))

    await database.write(lambda connection: limit(connection, 60))
    busy = Busy(database)
    ends = await busy.until(await busy.ask(*records))

    assert [type(end) for end in ends] == 3 * [DatabaseUnavailableError]
    assert "disk is full" in str(ends[1])
    assert not any(cast(DatabaseUnavailableError, end).perhaps_committed for end in ends)
    assert await prompts(database) == []

    await database.write(lambda connection: limit(connection, 1_000_000))
    await write(database, task("somebody else"))
    for record in records:
        await write(database, record)
    assert await prompts(database) == ["somebody else", *(record.prompt for record in records)]


async def test_another_process_that_keeps_the_file_locked_makes_it_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 10)
    database = Database(f"sqlite:///{tmp_path / 'darkroom.db'}")
    await database.migrate()
    with sqlite3.connect(tmp_path / "darkroom.db") as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError, match="database is locked") as refused:
                await write(database, task("x"))
            assert not refused.value.perhaps_committed
        assert await prompts(database) == []
    other.close()
    await write(database, task("x"))
    await database.close()


FULL_AT_COMMIT = """
import asyncio, resource, sys, threading
from tasks.database import Database
from tasks.errors import DatabaseUnavailableError
from tests.tasks.test_database import insert, prompts, task, write
from tests.tasks.test_sqlite import Busy

async def main(path):
    database = Database(f"sqlite:///{path}")
    await database.migrate()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Nothing may be written beyond the first bytes of a file: the log, which is longer by now, takes nothing more.
    busy = Busy(database)
    asked = await busy.ask(task("1"), task("2"), task("3"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    ends = await busy.until(asked)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    print(all(isinstance(end, DatabaseUnavailableError) and end.perhaps_committed for end in ends))
    await write(database, task("afterwards"))
    print(await prompts(database))
    await database.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_a_commit_that_fails_fails_for_all_and_nobody_claims_to_know_whether_it_happened(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FULL_AT_COMMIT, str(tmp_path / "darkroom.db")),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert out.decode().splitlines() == ["True", "['afterwards']"], err.decode()
