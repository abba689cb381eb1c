"""The counters of those who follow all tasks: right also when nothing happens but time passing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from tasks.activity import Activities, Activity, Counted
from tasks.activity_log import ActivityLog
from tasks.counts import COUNT_SECONDS, RECENTLY, RECOUNT_SECONDS, Counts, Recount, TaskCounts
from tasks.history import TaskFilter
from tasks.records import now
from tasks.status import TaskStatus
from tasks.tables import TASKS
from tests.tasks.conftest import Shelf
from tests.tasks.test_activity import QUICK, SECONDS, succeed

pytestmark = pytest.mark.anyio


class Watched(Counts):
    """Says how often it was asked."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf.database)
        self.asked = 0
        self.often = asyncio.Event()

    async def of(self, filter: TaskFilter) -> TaskCounts:
        counts = await super().of(filter)
        self.asked += 1
        if self.asked >= 4:
            self.often.set()
        return counts


async def counted(stream: AsyncGenerator[Activity, None]) -> TaskCounts:
    """The next counts that are told."""
    async with asyncio.timeout(SECONDS):
        async for activity in stream:
            if isinstance(activity, Counted):
                return activity.counts
    raise AssertionError("it has no end")


async def grow_old(shelf: Shelf) -> None:
    """An hour goes by for all that has ended."""
    older = TASKS.update().where(TASKS.c.finished_at.is_not(None)).values(finished_at=now() - RECENTLY)
    await shelf.database.write(lambda connection: connection.execute(older))


async def test_what_ended_an_hour_ago_leaves_the_counts_though_nothing_happens(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.counts.RECOUNT_SECONDS", 0.001)
    await succeed(shelf, await shelf.claimed())
    followers = Activities(ActivityLog(shelf.database), shelf.feed, Counts(shelf.database))
    async with aclosing(followers.follow(TaskFilter(), None, QUICK)) as stream:
        before = await counted(stream)
        await grow_old(shelf)
        # On PostgreSQL the end of the task may be news only now: other tests have transactions, too.
        while (after := await counted(stream)) == before:
            pass

    assert (before.by_status, after.by_status) == ({TaskStatus.SUCCEEDED: 1}, {})


# On PostgreSQL what happened before may be news later on, because other tests have transactions, too.
@pytest.mark.parametrize("with_tables", ["sqlite"], indirect=True)
async def test_counts_that_are_the_same_are_not_told_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.counts.RECOUNT_SECONDS", 0.001)
    await succeed(shelf, await shelf.claimed())
    counts = Watched(shelf)
    followers = Activities(ActivityLog(shelf.database), shelf.feed, counts)
    async with aclosing(followers.follow(TaskFilter(), None, QUICK)) as stream:
        await counted(stream)
        again = asyncio.create_task(counted(stream))
        async with asyncio.timeout(SECONDS):
            await counts.often.wait()
        told = again.done()
        await grow_old(shelf)
        after = await again

    assert not told
    assert after.by_status == {}


def test_it_is_counted_again_soon_after_news_and_now_and_then_while_something_grows_old() -> None:
    recount = Recount()
    ended, waiting = (TaskCounts(Counter({status: 1}), None) for status in (TaskStatus.FAILED, TaskStatus.QUEUED))
    assert recount.due is not None
    assert recount.due <= 0
    assert recount.counted(10, ended)
    assert recount.due == 10 + RECOUNT_SECONDS
    assert not recount.counted(70, ended)
    recount.change()
    assert recount.due == 70 + COUNT_SECONDS
    assert recount.counted(72, waiting)
    assert recount.due is None
