"""Following all tasks on another PostgreSQL server than the one that wrote them, where transactions count from anew."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tasks.activity import Started
from tasks.activity_log import ActivityLog, Position
from tasks.darkroom import Darkroom
from tasks.history import TaskFilter
from tasks.settings import TaskSettings
from tasks.tables import EVENTS
from tests.tasks.conftest import Shelf
from tests.tasks.test_activity import QUICK, SECONDS, activities, events, following, succeed, succeeded

# On SQLite there are no transactions to be counted.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("with_tables", ["postgresql"], indirect=True)]
AHEAD = 300


async def restore(shelf: Shelf, home: Path, *, after: int) -> None:
    """Events above a sequence get numbers that their server had, but this one has not yet. Then Darkroom starts."""
    foreign = EVENTS.update().where(EVENTS.c.sequence > after).values(transaction=EVENTS.c.transaction + AHEAD)
    await shelf.database.write(lambda connection: connection.execute(foreign))
    settings = TaskSettings(home=home, database_url=shelf.database.url.render_as_string(hide_password=False))
    darkroom = Darkroom(settings, [], sandbox_url="", public_url=None, base_url="", works=False)
    await darkroom.migrate()
    await darkroom.close()


async def catch_up(shelf: Shelf) -> None:
    """Let this server count as far as the other one had."""
    for _ in range(AHEAD):
        await shelf.database.write(lambda connection: connection.execute(select(func.pg_current_xact_id())))


async def told(shelf: Shelf) -> list[Position]:
    """The places of all events, when they can be read."""
    log = ActivityLog(shelf.database)
    async with asyncio.timeout(SECONDS):
        while len(found := await log.after(Position(0, 0))) < 2:  # noqa: ASYNC110 - other tests' transactions
            await asyncio.sleep(0.01)
    return [one.position for one in found]


async def test_what_happened_before_a_back_up_is_no_news_after_it(shelf: Shelf, tmp_path: Path) -> None:
    await succeed(shelf, await shelf.claimed())
    await restore(shelf, tmp_path, after=0)
    async with aclosing(activities(shelf).follow(TaskFilter(), None, QUICK)) as stream:
        await anext(stream)
        await catch_up(shelf)
        new = await shelf.claimed()
        await succeed(shelf, new)
        _, news = await following(stream, succeeded)

    assert events(news) == {(new.id, 1), (new.id, 2)}


async def test_a_cursor_of_before_a_back_up_hides_nothing_that_happened_after_it(shelf: Shelf, tmp_path: Path) -> None:
    await succeed(shelf, await shelf.claimed())
    last = (await told(shelf))[-1]
    await restore(shelf, tmp_path, after=0)
    was = Position(last.transaction + AHEAD, last.position, last.at)
    await succeed(shelf, await shelf.claimed())
    await catch_up(shelf)
    async with aclosing(activities(shelf).follow(TaskFilter(), was, QUICK)) as stream:
        first = await anext(stream)

    assert isinstance(first, Started)
    assert not first.complete


async def test_what_a_cursor_of_before_a_back_up_leads_to_is_told(shelf: Shelf, tmp_path: Path) -> None:
    task = await shelf.claimed()
    await succeed(shelf, task)
    was = (await told(shelf))[0]
    await restore(shelf, tmp_path, after=1)
    async with aclosing(activities(shelf).follow(TaskFilter(), was, QUICK)) as stream:
        started, news = await following(stream, succeeded)

    assert started == [Started(was, complete=True)]
    assert events(news) == {(task.id, 2)}


async def test_what_this_server_has_written_stays_where_it_is(shelf: Shelf, tmp_path: Path) -> None:
    await succeed(shelf, await shelf.claimed())
    before = await told(shelf)
    await restore(shelf, tmp_path, after=2)

    assert await told(shelf) == before
