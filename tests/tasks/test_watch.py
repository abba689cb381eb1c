"""Watching: replay, then live, without a gap and without a repeat."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from tasks.events import NoticeGiven, Succeeded
from tasks.feed import BACKLOG
from tasks.records import TaskRecord
from tasks.status import TaskStatus
from tasks.watch import watch
from tests.tasks.conftest import Shelf

pytestmark = pytest.mark.anyio


async def write(shelf: Shelf, task: TaskRecord, count: int) -> None:
    for number in range(count):
        await shelf.journal.append(task, NoticeGiven(str(number), None))
    await shelf.journal.append(task, Succeeded(), status=TaskStatus.SUCCEEDED)


async def test_a_reader_sees_every_event_once_whenever_it_comes(shelf: Shelf) -> None:
    task = await shelf.claimed()

    async def read(wait_for: int) -> list[int]:
        if wait_for:
            async with aclosing(watch(shelf.feed, shelf.history, task.id, after=wait_for - 1)) as events:
                await anext(events)
        async with aclosing(watch(shelf.feed, shelf.history, task.id)) as events:
            return [event.sequence async for event in events]

    readers = [asyncio.create_task(read(count)) for count in (0, 0, 3, 10, 25, 40)]
    await write(shelf, task, 40)
    for reader in readers:
        assert await reader == list(range(1, 43))


async def test_a_reader_that_stops_reading_costs_little_and_still_misses_nothing(shelf: Shelf) -> None:
    task = await shelf.claimed()
    seen: list[int] = []
    async with aclosing(watch(shelf.feed, shelf.history, task.id)) as events:
        async for event in events:
            seen.append(event.sequence)
            if event.sequence == 1:
                await write(shelf, task, BACKLOG * 3)
    assert seen == list(range(1, BACKLOG * 3 + 3))


async def test_a_reader_that_leaves_is_forgotten(shelf: Shelf) -> None:
    task = await shelf.claimed()
    async with aclosing(watch(shelf.feed, shelf.history, task.id)) as events:
        await anext(events)
        assert shelf.feed.subscribers == 1
    assert shelf.feed.subscribers == 0


async def test_watching_an_ended_task_from_its_end_is_over_at_once(shelf: Shelf) -> None:
    task = await shelf.claimed()
    await write(shelf, task, 1)
    async with aclosing(watch(shelf.feed, shelf.history, task.id, after=3)) as events:
        assert [event async for event in events] == []
