"""A fail-over of PostgreSQL: a session that only reads, because the address still led to the old primary or because
that was shut for writing, is of no use any more, and nobody keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy import Connection, make_url

from providers.contract import Accepted, Provider, ProviderEvent
from tasks import engine
from tasks.database import Database
from tasks.errors import DatabaseUnavailableError
from tasks.events import StatusChanged
from tasks.postgresql import conninfo
from tasks.status import TaskStatus
from tests.clients import eventually
from tests.postgres import OWNER, PostgresServer, postgres
from tests.tasks.node import Vendor, ended, node, order, pictures, until, vendor
from tests.tasks.test_database import insert, prompts, task, write
from tests.tasks.test_engine import QUEUE, Runs, enqueue, working
from tests.tasks.test_postgresql import say

pytestmark = pytest.mark.anyio

ONLY_READ = "set session characteristics as transaction read only"
"""What makes a session, once that is committed, what every session of such a server is."""


@pytest.fixture
async def database(postgres_with_tables: str) -> AsyncIterator[Database]:
    """With its tables."""
    database = Database(postgres_with_tables)
    yield database
    await database.close()


@pytest.fixture
async def careless(postgres_with_tables: str) -> AsyncIterator[Database]:
    """The same, and its sessions begin at any server."""
    database = Database(f"{postgres_with_tables}&target_session_attrs=any")
    yield database
    await database.close()


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Vendor]:
    """The vendor of this test."""
    async with vendor(tmp_path) as made:
        yield made


@contextmanager
def failing_over(server: PostgresServer, url: str) -> Iterator[None]:
    """All sessions end, and those that begin before the block ends only read, however long they last."""
    name = make_url(url).database
    with server.connection() as connection:
        connection.execute(f"alter database {name} set default_transaction_read_only = on")
        connection.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", [name])
        try:
            yield
        finally:
            connection.execute(f"alter database {name} reset default_transaction_read_only")


async def test_no_session_begins_at_a_server_that_only_reads(
    database: Database, postgres_server: PostgresServer, postgres_with_tables: str
) -> None:
    await asyncio.gather(write(database, task("before")), prompts(database))
    with failing_over(postgres_server, postgres_with_tables):
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError, match="read-only") as refused:
                await write(database, task("lost"))
            # What is read there may be long out of date when another server has become the primary.
            with pytest.raises(DatabaseUnavailableError, match="read-only"):
                await prompts(database)
        with pytest.raises(psycopg.OperationalError, match="read-only"):  # as `tasks.signals` listens
            await psycopg.AsyncConnection.connect(conninfo(database.url))
    await write(database, task("after"))

    assert not refused.value.perhaps_committed
    assert await prompts(database) == ["before", "after"]


async def test_of_several_servers_the_one_that_can_be_written_is_used(postgres_server: PostgresServer) -> None:
    with postgres() as shut:
        folders = [make_url(server.url("postgres")).query["host"] for server in (shut, postgres_server)]
        with shut.connection() as connection:
            connection.execute("alter database postgres set default_transaction_read_only = on")
        database = Database(f"postgresql://{OWNER}@/postgres?host={folders[0]}&host={folders[1]}")
        where = await database.write(lambda connection: say(connection, "show unix_socket_directories"))
        await database.close()

    assert where == folders[1]


@pytest.mark.parametrize("reason", ["cannot write any more", "does not understand what is said"])
async def test_a_transaction_is_done_again_elsewhere_when_its_session(database: Database, reason: str) -> None:
    fault = ONLY_READ if reason.startswith("cannot") else "do $$ begin raise sqlstate '08P01'; end $$"
    sessions: list[object] = []

    def work(connection: Connection) -> None:
        sessions.append(say(connection, "select pg_backend_pid()"))
        if len(sessions) == 1:
            say(connection, fault)
            say(connection, "set transaction read only")
        insert(connection, task("x"))

    await database.write(work)

    assert len(set(sessions)) == 2
    assert await prompts(database) == ["x"]
    assert await database.write(lambda connection: say(connection, "select pg_backend_pid()")) == sessions[1]


async def test_a_session_that_has_become_read_only_is_not_kept(database: Database) -> None:
    await database.write(lambda connection: say(connection, ONLY_READ))
    for number in range(3):
        await write(database, task(str(number)))

    assert await prompts(database) == ["0", "1", "2"]


async def test_nobody_goes_on_reading_where_nothing_new_is_written(database: Database) -> None:
    def shut_and_look(connection: Connection) -> object:
        say(connection, ONLY_READ)
        return say(connection, "select pg_backend_pid()")

    before = await database.read(shut_and_look)

    assert await database.read(lambda connection: say(connection, "select pg_backend_pid()")) != before


async def test_the_engine_claims_again_after_all_its_sessions_only_read(
    careless: Database,
    postgres_server: PostgresServer,
    postgres_with_tables: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refused() -> bool:
        worker.wake(QUEUE)
        return "cannot execute SELECT FOR UPDATE in a read-only transaction" in caplog.text

    async def started() -> bool:
        worker.wake(QUEUE)
        return bool(runs.started)

    monkeypatch.setattr(engine, "POLLING_SECONDS", 3600.0)
    runs = Runs()
    runs.gate.set()
    async with working(careless, runs) as worker:
        with failing_over(postgres_server, postgres_with_tables):
            await eventually(refused)
        await enqueue(careless, worker, "task")
        await eventually(started)
        await runs.until(lambda: runs.running == 0)


class Held:
    """A provider whose events stop after it has accepted a task, until the test lets them go on."""

    def __init__(self, provider: Provider[BaseModel]) -> None:
        self._run = provider.run
        self.gate = asyncio.Event()

    async def run(self, *args: Any, **kwargs: Any) -> AsyncGenerator[ProviderEvent, None]:
        async with aclosing(self._run(*args, **kwargs)) as events:
            async for event in events:
                yield event
                if isinstance(event, Accepted):
                    await self.gate.wait()


async def test_a_node_goes_on_by_itself_after_a_moment_in_which_the_database_only_reads(
    studio: Vendor,
    tmp_path: Path,
    postgres_server: PostgresServer,
    postgres_with_tables: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def heard(words: str) -> int:
        return sum(words in record.getMessage() for record in caplog.records)

    async def refused_everywhere() -> bool:
        return heard("it is tried again") >= len(held) and heard("cannot be looked into now") > 0

    monkeypatch.setattr(engine, "POLLING_SECONDS", 0.2)
    async with node(studio, tmp_path, postgres_with_tables) as at:
        held = {name: Held(at.providers[name]) for name in ("openai_images", "all_images")}
        for name, provider in held.items():
            monkeypatch.setattr(at.providers[name], "run", provider.run)
        stream = await at.start(order("openai_images", partial_images=2))
        job = await at.start(order("all_images"))
        for one in (stream, job):
            await until(at, one, TaskStatus.RUNNING)
        with failing_over(postgres_server, postgres_with_tables):
            with pytest.raises(DatabaseUnavailableError):
                await at.start(order("placewise"))
            for provider in held.values():
                provider.gate.set()
            await eventually(refused_everywhere)
        after = await at.start(order("openai_images"))
        for one in (stream, job, after):
            events = await ended(at, one)
            assert events[-1].task.status is TaskStatus.SUCCEEDED
            assert await studio.charges(one.id) == 1
            assert await pictures(at, one)
        assert StatusChanged(TaskStatus.SUBMITTING) in [event.change for event in events]
