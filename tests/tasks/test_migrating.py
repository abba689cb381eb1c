"""Bringing the database up to date: once, whole, and by one node at a time."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tasks import postgresql
from tasks.database import Database, alembic_config
from tasks.errors import DatabaseUnavailableError, NewerDatabaseError
from tests.postgres import PASSWORD, PostgresServer, postgres

pytestmark = pytest.mark.anyio

NODE = """
import asyncio, sys
from tasks.database import Database
from tasks.engine import migrate_engine

async def main(url):
    database = Database(url)
    print("ready", flush=True)
    sys.stdin.readline()
    await database.migrate(lambda: migrate_engine(database.sync_url))
    await database.close()

asyncio.run(main(sys.argv[1]))
"""


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        await database.close()


@contextmanager
def logged(words: str) -> Iterator[asyncio.Event]:
    """Is set when the log says something."""
    loop, said = asyncio.get_running_loop(), asyncio.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage():
                loop.call_soon_threadsafe(said.set)

    logger, listener = logging.getLogger(postgresql.__name__), Listener()
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(listener)


async def test_the_migrations_make_the_tables_that_the_code_expects(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.migrate()
        await database.migrate()
        await asyncio.to_thread(command.check, alembic_config(database.sync_url))


async def test_the_folder_of_a_new_sqlite_file_is_made(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path / 'new' / 'darkroom.db'}") as database:
        await database.migrate()

    assert (tmp_path / "new" / "darkroom.db").exists()


async def test_nodes_that_start_together_on_an_empty_database_all_succeed(database_url: str) -> None:
    starting = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error::UserWarning", "-c", NODE, database_url),
            cwd=Path(__file__).parents[2],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for node in starting:
        assert node.stdout is not None
        await node.stdout.readline()
    ends = await asyncio.gather(*(node.communicate(b"go\n") for node in starting))

    assert [node.returncode for node in starting] == [0, 0], ends
    async with opened(database_url) as database:
        await asyncio.to_thread(command.check, alembic_config(database.sync_url))


async def test_a_migration_that_fails_leaves_nothing_of_it_behind(database_url: str) -> None:
    async with opened(database_url) as database:
        in_the_way = "create table callback_delivery (number integer)"
        await database.write(lambda connection: connection.execute(text(in_the_way)))
        with pytest.raises(DBAPIError, match="callback_delivery"):
            await database.migrate()
        await database.write(lambda connection: connection.execute(text("drop table callback_delivery")))

        await database.migrate()


async def test_what_the_engine_does_for_its_own_tables_comes_after_ours(database_url: str) -> None:
    found: list[str] = []

    def also() -> None:
        table = database.read(lambda connection: connection.execute(text("select * from task")).keys())
        found.extend(asyncio.run(table))

    async with opened(database_url) as database:
        await database.migrate(also)

    assert "prompt" in found


async def test_a_node_that_waits_for_its_turn_does_not_hold_up_the_building_of_an_index(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.split("@/")[1].split("?")[0]
    async with opened(postgres_url) as database:
        with postgres_server.connection(name) as connection:
            connection.execute("create table large (number int)")
            connection.execute("select pg_advisory_lock(%s)", [postgresql.MIGRATION_LOCK])
            with logged("Another node is") as waits:
                waiting = asyncio.create_task(database.migrate())
                await asyncio.wait_for(waits.wait(), 20)
            await asyncio.to_thread(connection.execute, "set statement_timeout = '20s'")
            await asyncio.to_thread(connection.execute, "create index concurrently ix_large on large (number)")
            assert not waiting.done()
        await waiting


async def test_a_node_waits_for_a_database_that_is_still_starting() -> None:
    with postgres() as server, server.database() as url:
        server.stop()
        async with opened(url) as database:
            with logged("Waiting for PostgreSQL") as waits:
                starting = asyncio.create_task(database.migrate())
                await asyncio.wait_for(waits.wait(), 20)
            await asyncio.to_thread(server.start)
            await starting


async def test_a_database_that_never_answers_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "FIRST_CONTACT_SECONDS", 0.1)
    async with opened(f"postgresql://me:{PASSWORD}@/pictures?host=/nowhere&password={PASSWORD}") as database:
        with pytest.raises(DatabaseUnavailableError) as refused:
            await database.migrate()

    assert "/nowhere, database pictures has not answered for 0.1 seconds" in str(refused.value)
    assert PASSWORD not in f"{refused.value!r} {refused.value.__cause__} {refused.value.__cause__!r}"


async def test_a_database_that_does_not_exist_is_not_waited_for(postgres_server: PostgresServer) -> None:
    async with opened(postgres_server.url("elsewhere")) as database, asyncio.timeout(10):
        with pytest.raises(DatabaseUnavailableError, match=r'refuses: .*"elsewhere" does not exist'):
            await database.migrate()


async def test_a_database_of_a_newer_version_is_explained(database_url: str) -> None:
    database = Database(database_url)
    await database.migrate()
    await database.write(lambda connection: connection.exec_driver_sql("update alembic_version set version_num='9999'"))
    with pytest.raises(NewerDatabaseError, match="newer version of Darkroom"):
        await database.migrate()
    await database.close()
