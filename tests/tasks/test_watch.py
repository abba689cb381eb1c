"""Watching: replay, then live, without a gap and without a repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from tasks.events import NoticeGiven, Succeeded, TaskEvent
from tasks.feed import BACKLOG, RECENT
from tasks.history import History
from tasks.records import TaskRecord
from tasks.status import TaskStatus
from tasks.watch import watch
from tests.tasks.conftest import Shelf

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_safety_net")]
SECONDS = 20


@asynccontextmanager
async def watching(
    shelf: Shelf, task: TaskRecord, after: int = 0, *, history: History | None = None, read_at: int | None = None
) -> AsyncIterator[AsyncGenerator[TaskEvent, None]]:
    """Watch a task in a block that takes too long when no news comes."""
    events = watch(shelf.feed, history or shelf.history, task.id, after, read_at=read_at)
    async with asyncio.timeout(SECONDS), aclosing(events):
        yield events


async def write(shelf: Shelf, task: TaskRecord, count: int) -> None:
    for number in range(count):
        await shelf.journal.append(task, NoticeGiven(str(number), None))
    await shelf.journal.append(task, Succeeded(), status=TaskStatus.SUCCEEDED)


async def test_a_reader_sees_every_event_once_whenever_it_comes(shelf: Shelf) -> None:
    task = await shelf.claimed()

    async def read(wait_for: int) -> list[int]:
        if wait_for:
            async with watching(shelf, task, after=wait_for - 1) as events:
                await anext(events)
        async with watching(shelf, task) as events:
            return [event.sequence async for event in events]

    readers = [asyncio.create_task(read(count)) for count in (0, 0, 3, 10, 25, 40)]
    await write(shelf, task, 40)
    for reader in readers:
        assert await reader == list(range(1, 43))


async def test_a_reader_that_stops_reading_costs_little_and_still_misses_nothing(shelf: Shelf) -> None:
    task = await shelf.claimed()
    seen: list[int] = []
    async with watching(shelf, task) as events:
        async for event in events:
            seen.append(event.sequence)
            if event.sequence == 1:
                await write(shelf, task, BACKLOG * 3)
    assert seen == list(range(1, BACKLOG * 3 + 3))


async def test_a_reader_that_leaves_is_forgotten(shelf: Shelf) -> None:
    task = await shelf.claimed()
    async with watching(shelf, task) as events:
        await anext(events)
        assert shelf.feed.subscribers == 1
    assert shelf.feed.subscribers == 0


async def test_watching_an_ended_task_from_its_end_is_over_at_once(shelf: Shelf) -> None:
    task = await shelf.claimed()
    await write(shelf, task, 1)
    async with watching(shelf, task, after=3) as events:
        assert [event async for event in events] == []


class Looks(History):
    """A history that knows how often somebody looked into the log."""

    looks = 0

    async def events(
        self, task_id: str, after: int, most: int | None = None
    ) -> tuple[TaskRecord | None, list[TaskEvent]]:
        self.looks += 1
        return await super().events(task_id, after, most)


async def test_who_has_just_read_the_log_does_not_read_it_again(shelf: Shelf) -> None:
    task, history = await shelf.claimed(), Looks(shelf.database)
    mark = shelf.feed.mark
    async with watching(shelf, task, after=1, read_at=mark, history=history) as events:
        first = asyncio.create_task(anext(events))
        await asyncio.sleep(0)
        assert shelf.feed.subscribers == 1
        await write(shelf, task, 3)
        assert [(await first).sequence, *[event.sequence async for event in events]] == [2, 3, 4, 5]

    assert history.looks == 0


@pytest.mark.parametrize("others", [0, RECENT], ids=["remembered", "forgotten"])
async def test_news_between_reading_and_listening_is_not_missed(shelf: Shelf, others: int) -> None:
    task = await shelf.claimed()
    mark = shelf.feed.mark
    await write(shelf, task, 3)
    for number in range(others):
        shelf.feed.hint(f"other {number}")
    async with watching(shelf, task, after=1, read_at=mark) as events:
        assert [event.sequence async for event in events] == [2, 3, 4, 5]


async def test_after_a_time_of_lost_hints_the_log_is_read(shelf: Shelf) -> None:
    task, history = await shelf.claimed(), Looks(shelf.database)
    mark = shelf.feed.mark
    shelf.feed.hint_all()
    async with watching(shelf, task, after=0, read_at=mark, history=history) as events:
        assert (await anext(events)).sequence == 1

    assert history.looks == 1
