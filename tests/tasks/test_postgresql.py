"""What is special about PostgreSQL: it is somewhere else, it restarts, and others work on it at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest
from sqlalchemy import Connection, make_url, text

from tasks import postgresql
from tasks.database import Database
from tasks.errors import DatabaseUnavailableError
from tasks.postgresql import conninfo
from tests.postgres import PASSWORD, PostgresServer, postgres
from tests.tasks.test_database import insert, prompts, task, write

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """With its tables."""
    database = Database(postgres_url)
    await database.migrate()
    yield database
    await database.close()


def say(connection: Connection, statement: str) -> object:
    """Do one statement; its first value."""
    result = connection.execute(text(statement))
    return result.scalar() if result.returns_rows else None


async def test_every_connection_says_who_it_is_and_gives_up_on_the_dead(postgres_url: str) -> None:
    database = Database(f"{postgres_url}&application_name=mine&options=-c%20work_mem%3D5MB")
    names = ("timezone", "application_name", "idle_in_transaction_session_timeout", "work_mem")
    shown = await database.read(lambda connection: [say(connection, f"show {name}") for name in names])
    await database.close()

    # What the URL says itself has precedence.
    assert shown == ["UTC", "mine", "10s", "5MB"]


@pytest.mark.parametrize(("said", "kept"), [("", "on"), ("&options=-c%20synchronous_commit%3Dlocal", "local")])
async def test_a_commit_waits_for_the_disk_whatever_is_usual_on_the_server(
    postgres_server: PostgresServer, postgres_url: str, said: str, kept: str
) -> None:
    show = "show synchronous_commit"
    database = Database(postgres_url + said)
    with postgres_server.connection() as connection:
        connection.execute(f"alter database {database.url.database} set synchronous_commit = off")
    shown = await database.write(lambda connection: say(connection, show))
    await database.close()
    with psycopg.connect(postgres_url) as usual, psycopg.connect(conninfo(make_url(database.sync_url))) as engines:
        assert usual.execute(show).fetchone() == ("off",)
        assert engines.execute(show).fetchone() == (kept,)

    assert shown == kept


async def test_a_restart_between_two_transactions_is_not_noticed() -> None:
    with postgres() as server, server.database() as url:
        database = Database(url)
        await database.migrate()
        for number in range(3):
            await asyncio.gather(*(write(database, task(f"{number}")) for _ in range(10)))
            assert len(await prompts(database)) == 10 * (number + 1)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
        assert len(await prompts(database)) == 30
        await database.close()


async def test_a_database_that_is_away_is_said_to_be_and_is_used_again_when_it_is_back() -> None:
    with postgres() as server, server.database() as url:
        database = Database(url)
        await database.migrate()
        await asyncio.to_thread(server.stop)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError) as refused:
                await write(database, task("x"))
            with pytest.raises(DatabaseUnavailableError):
                await prompts(database)
        assert not refused.value.perhaps_committed
        assert PASSWORD not in f"{refused.value} {refused.value.__cause__}"
        await asyncio.to_thread(server.start)
        await write(database, task("x"))
        assert await prompts(database) == ["x"]
        await database.close()


async def test_a_connection_that_dies_under_a_transaction_undoes_it(database: Database) -> None:
    def die(connection: Connection) -> None:
        insert(connection, task("x"))
        say(connection, "select pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(DatabaseUnavailableError, match="terminating connection") as lost:
        await database.write(die)

    assert not lost.value.perhaps_committed
    assert await prompts(database) == []


async def test_a_transaction_whose_connection_had_died_before_is_done_again_by_itself(database: Database) -> None:
    record, tries = task("x"), []

    def die_once(connection: Connection) -> None:
        tries.append(record.id)
        insert(connection, record)
        if len(tries) == 1:
            say(connection, "select pg_terminate_backend(pg_backend_pid())")

    await database.write(die_once)

    assert len(tries) == 2
    assert await prompts(database) == ["x"]


DIE_AT_COMMIT = (
    "create function die() returns trigger language plpgsql as"
    " 'begin perform pg_terminate_backend(pg_backend_pid()); return null; end'",
    "create constraint trigger at_commit after insert on task deferrable initially deferred"
    " for each row execute function die()",
)


async def test_a_connection_that_dies_at_the_commit_leaves_it_open_whether_that_happened(database: Database) -> None:
    record = task("x")
    for statement in DIE_AT_COMMIT:
        await database.write(lambda connection, statement=statement: say(connection, statement))  # type: ignore[misc]
    with pytest.raises(DatabaseUnavailableError, match="perhaps committed") as lost:
        await write(database, record)
    await database.write(lambda connection: say(connection, "drop trigger at_commit on task"))

    assert lost.value.perhaps_committed
    # It did not, and whoever has looked can do it again.
    assert await prompts(database) == []
    await write(database, record)
    assert await prompts(database) == ["x"]


async def test_a_constraint_that_is_checked_at_the_commit_is_still_a_mistake_of_the_caller(database: Database) -> None:
    table = "create table strict (n int unique deferrable initially deferred)"
    await database.write(lambda connection: say(connection, table))
    with pytest.raises(Exception, match="duplicate key") as refused:
        await database.write(lambda connection: say(connection, "insert into strict values (1), (1)"))

    assert not isinstance(refused.value, DatabaseUnavailableError)


async def test_transactions_that_lock_each_other_out_both_happen_in_the_end(
    database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.commits.TOGETHER", 1)
    name = postgres_url.split("@/")[1].split("?")[0]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"alter database {name} set deadlock_timeout = '10ms'")
    await write(database, task("1"))
    await write(database, task("2"))
    impatient = Database(postgres_url)
    both = threading.Barrier(2)
    tries: list[int] = []

    def update(first: int, second: int, connection: Connection) -> None:
        tries.append(first)
        say(connection, f"update task set name = '{first}' where prompt = '{first}'")
        if len(tries) <= 2:
            both.wait(20)
        say(connection, f"update task set name = '{first}' where prompt = '{second}'")

    await asyncio.gather(
        impatient.write(lambda connection: update(1, 2, connection)),
        impatient.write(lambda connection: update(2, 1, connection)),
    )
    await impatient.close()

    assert len(tries) > 2, "one of them had to begin again"


async def test_a_process_that_is_frozen_in_a_transaction_does_not_keep_its_rows(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgresql.SERVER, "idle_in_transaction_session_timeout", "100ms")
    database = Database(postgres_url)
    await database.migrate()
    await write(database, task("x"))
    frozen, woken = threading.Event(), threading.Event()
    tries: list[object] = []

    def freeze(connection: Connection) -> object:
        tries.append(say(connection, "update task set name = coalesce(name, '') || 'frozen ' returning name"))
        frozen.set()
        woken.wait(20)
        return say(connection, "select name from task")

    freezing = asyncio.create_task(database.write(freeze))
    await asyncio.to_thread(frozen.wait, 20)
    await database.write(lambda connection: say(connection, "update task set name = 'taken over '"))
    woken.set()

    # What the frozen one had done is undone; it begins again, and sees what has happened meanwhile.
    assert await freezing == "taken over frozen "
    assert tries == ["frozen ", "taken over frozen "]
    await database.close()


@asynccontextmanager
async def held(url: str, prompt: str) -> AsyncIterator[None]:
    """Somebody else keeps a row locked."""
    with psycopg.connect(url) as elsewhere:
        elsewhere.execute("update task set name = 'held' where prompt = %s", [prompt])
        yield
        elsewhere.rollback()


def named(prompt: str) -> Callable[[Connection], object]:
    """A piece of work on one row."""
    return lambda connection: say(connection, f"update task set name = 'mine' where prompt = '{prompt}' returning name")


async def test_whoever_wants_a_row_that_is_locked_keeps_nobody_else_waiting(
    database: Database, postgres_url: str
) -> None:
    for number in range(20):
        await write(database, task(str(number)))
    busy, release = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        busy.set()
        release.wait(20)

    first = asyncio.create_task(database.write(work))
    await asyncio.to_thread(busy.wait, 20)
    async with held(postgres_url, "7"):
        asked = [asyncio.create_task(database.write(named(str(number)))) for number in range(20)]
        await asyncio.sleep(0)
        release.set()
        async with asyncio.timeout(5):  # the server itself ends what holds the lock after 10 seconds
            await asyncio.gather(first, *(one for number, one in enumerate(asked) if number != 7))
            # Their rows are free again, and there is somebody to write them.
            await asyncio.gather(*(database.write(named(str(number))) for number in range(20) if number != 7))
        assert not asked[7].done()

    assert await asked[7] == "mine"


async def test_whoever_shares_a_commit_with_one_that_fails_hears_of_nothing(database: Database) -> None:
    def fail(connection: Connection) -> None:
        say(connection, "update task set name = 'failed'")
        raise LookupError

    busy, release = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        busy.set()
        release.wait(20)

    first = asyncio.create_task(database.write(work))
    await asyncio.to_thread(busy.wait, 20)
    asked = [asyncio.create_task(write(database, task(str(number)))) for number in range(3)]
    failing = asyncio.create_task(database.write(fail))
    asked += [asyncio.create_task(write(database, task(str(number)))) for number in range(3, 6)]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(first, *asked)
    with pytest.raises(LookupError):
        await failing

    assert await prompts(database) == ["0", "1", "2", "3", "4", "5"]


async def test_one_node_never_has_more_connections_than_it_says(database: Database, postgres_url: str) -> None:
    count = text("select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
    await asyncio.gather(*(write(database, task(str(number))) for number in range(50)))
    await asyncio.gather(*(prompts(database) for _ in range(50)))
    other = Database(postgres_url)
    connections = await other.read(lambda connection: connection.execute(count).scalar_one())
    await other.close()

    assert connections <= postgresql.WRITERS + postgresql.READERS
