"""Hints between nodes: who hears them, when, and what happens when the connection is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tasks.database import Database
from tasks.events import NoticeGiven
from tasks.feed import Feed
from tasks.journal import Journal
from tasks.signals import Signals
from tests.postgres import PostgresServer, postgres
from tests.tasks import node as whole

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_safety_net")]
SECONDS = 20


class Node:
    """A node that keeps what it hears."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.signals = Signals(self.database)
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.gaps: asyncio.Queue[None] = asyncio.Queue()
        self.signals.on("news", self.heard.put_nowait)
        self.signals.on_gap(lambda: self.gaps.put_nowait(None))

    async def say(self, *texts: str) -> None:
        """Send hints in one transaction."""

        def send(connection: Connection) -> None:
            for text in texts:
                self.signals.send(connection, "news", text)

        await self.database.write(send)

    async def next(self) -> str:
        """The next hint."""
        async with asyncio.timeout(SECONDS):
            return await self.heard.get()


@asynccontextmanager
async def nodes(*urls: str) -> AsyncIterator[list[Node]]:
    """Nodes that listen."""
    all_of_them = [Node(url) for url in urls]
    for node in all_of_them:
        await node.signals.open()
    try:
        yield all_of_them
    finally:
        for node in all_of_them:
            await node.signals.close()
            await node.database.close()


async def test_hints_after_a_commit_are_told_together_and_each_once(postgres_url: str) -> None:
    async with nodes(postgres_url, postgres_url) as (one, other):
        for text in ("task 1", "task 2", "task 1", "task 1"):
            one.signals.tell("news", text)
        await one.signals.close()
        await other.say("the end")

        assert [await other.next() for _ in range(2)] == ["task 1", "task 2"]
        assert await one.database.read(lambda connection: True)
        assert other.heard.empty()


async def test_another_node_hears_what_was_committed_in_order_and_the_sender_does_not(postgres_url: str) -> None:
    async with nodes(postgres_url, postgres_url) as (one, other):
        await one.say("first", "second: with a colon")
        await other.say("third")
        await one.say("fourth")

        assert [await other.next() for _ in range(3)] == ["first", "second: with a colon", "fourth"]
        assert await one.next() == "third"
        assert one.heard.empty()


async def test_a_hint_of_a_transaction_that_is_rolled_back_is_never_sent(postgres_url: str) -> None:
    async with nodes(postgres_url, postgres_url) as (one, other):

        def fail(connection: Connection) -> None:
            one.signals.send(connection, "news", "never")
            raise LookupError

        with pytest.raises(LookupError):
            await one.database.write(fail)
        await one.say("afterwards")

        assert await other.next() == "afterwards"


async def test_hints_of_another_kind_and_a_handler_that_fails_do_not_disturb(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(postgres_url, postgres_url) as (one, other):

        def fail(text: str) -> None:
            raise LookupError(text)

        other.signals.on("broken", fail)
        await one.database.write(lambda connection: one.signals.send(connection, "broken", "x"))
        await one.database.write(lambda connection: one.signals.send(connection, "unknown", "x"))
        await one.say("still here")

        assert await other.next() == "still here"
    assert "could not be followed" in caplog.text


async def test_after_a_restart_of_the_database_a_node_hears_again_and_knows_that_it_missed_something() -> None:
    with postgres() as server, server.database() as url:
        async with nodes(url, url) as (one, other):
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(SECONDS):
                await other.gaps.get()
            await one.say("after the restart")

            assert await other.next() == "after the restart"
            assert other.gaps.empty()


async def test_a_node_that_starts_while_the_database_is_away_hears_as_soon_as_it_is_back() -> None:
    with postgres() as server, server.database() as url:
        server.stop()
        async with nodes(url, url) as (one, other):
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(SECONDS):
                await other.gaps.get()
            await one.say("hello")

            assert await other.next() == "hello"


async def test_whoever_watches_a_task_is_told_of_what_happened_while_its_node_could_not_hear(
    postgres_server: PostgresServer, postgres_with_tables: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf, hears = asyncio.Event(), asyncio.Event()
    async with (
        whole.vendor(tmp_path) as studio,
        whole.node(studio, tmp_path, postgres_with_tables, works=False) as api,
        nodes(postgres_with_tables) as (other,),
        asyncio.timeout(SECONDS),
    ):
        task = await api.start(whole.order("tiny"))
        async with aclosing(api.watch(task.id)) as events:
            assert (await anext(events)).sequence == 1
            second = asyncio.create_task(anext(events))
            signals, connect = api._signals, api._signals._connect

            async def connect_later() -> None:
                deaf.set()
                await hears.wait()
                await connect()

            monkeypatch.setattr(signals, "_connect", connect_later)
            assert signals._connection is not None
            with postgres_server.connection() as connection:
                connection.execute("select pg_terminate_backend(%s)", [signals._connection.info.backend_pid])
            await deaf.wait()
            journal = Journal(other.database, Feed(), other.signals)
            claimed = await journal.claim(task.id)
            assert claimed is not None
            await journal.append(claimed, NoticeGiven("nobody hears this", None))
            await other.signals.close()
            assert not second.done()
            hears.set()

            assert (await second).sequence == 2


async def test_nothing_is_left_connected_after_closing(postgres_server: PostgresServer, postgres_url: str) -> None:
    async with nodes(postgres_url):
        pass
    with postgres_server.connection() as connection:
        left = connection.execute("select query from pg_stat_activity where application_name = 'darkroom'").fetchall()
    assert left == []


async def test_a_hint_that_is_too_long_is_refused(postgres_url: str) -> None:
    async with nodes(postgres_url, postgres_url) as (one, other):
        await one.say("é" * 3900)
        with pytest.raises(ValueError, match="too long"):
            await one.say("é" * 4000)

        assert await other.next() == "é" * 3900


async def test_on_sqlite_nothing_is_sent_and_nothing_has_to_be_listened_to(tmp_path: Path) -> None:
    async with nodes(f"sqlite:///{tmp_path / 'darkroom.db'}") as (only,):
        await only.say("x" * 9000)

        assert only.heard.empty()
