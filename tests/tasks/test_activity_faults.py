"""Following all tasks while something is broken or away: whoever follows hears of it, or hears nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from sqlalchemy import Connection

from tasks.activity import Counted, Started, TaskChanged
from tasks.activity_log import ActivityLog, LoggedEvent, Position
from tasks.errors import DatabaseUnavailableError
from tasks.events import NoticeGiven
from tasks.history import TaskFilter
from tasks.status import TaskStatus
from tasks.tables import EVENTS
from tests.tasks.conftest import Shelf
from tests.tasks.test_activity import QUICK, activities, events, following, succeed, succeeded

pytestmark = pytest.mark.anyio


async def test_when_the_log_cannot_be_read_those_who_follow_hear_of_it_and_can_come_back(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = await shelf.claimed()
    followers = activities(shelf)

    async def broken(log: ActivityLog, position: Position) -> Sequence[LoggedEvent]:
        raise RuntimeError("this page is broken")

    async with aclosing(followers.follow(TaskFilter(), None, QUICK)) as stream:
        start = await anext(stream)
        with monkeypatch.context() as patch:
            patch.setattr(ActivityLog, "after", broken)
            shelf.feed.hint(task.id)
            with pytest.raises(RuntimeError, match="this page is broken"):
                await following(stream, succeeded)
        # The first one is not even gone.
        async with aclosing(followers.follow(TaskFilter(), start.position, QUICK)) as again:
            await succeed(shelf, task)
            started, told = await following(again, succeeded)

    assert started == [Started(start.position, complete=True)]
    assert told[-1].task.id == task.id
    assert "The log of all tasks cannot be read; 1 who follow it are sent away" in caplog.messages


async def test_an_event_that_cannot_be_read_counts_as_missed_and_hides_no_other(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    followers = activities(shelf)
    task, other = await shelf.claimed(), await shelf.claimed()
    await shelf.journal.append(task, NoticeGiven("x", None))
    await shelf.database.write(
        lambda connection: connection.execute(
            EVENTS.update().where(EVENTS.c.kind == NoticeGiven.kind).values(kind="of_a_later_version")
        )
    )
    await succeed(shelf, other)
    async with aclosing(followers.follow(TaskFilter(statuses=[TaskStatus.SUCCEEDED]), Position(0, 0), QUICK)) as stream:
        _, told = await following(stream, succeeded)

    assert [(one.task.id, one.missed) for one in told if one.missed] == [(task.id, 1)]
    assert f"Event 2 of task {task.id} cannot be read; `activity` leaves it out" in caplog.messages


async def test_a_database_that_is_away_for_a_while_is_no_news(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    followers = activities(shelf)
    start = await ActivityLog(shelf.database).end()
    task = await shelf.claimed()
    read, away = shelf.database.read, [True]

    async def unreliable(work: Callable[[Connection], Any]) -> Any:
        away[0] = not away[0]
        if not away[0]:
            raise DatabaseUnavailableError("the connection was lost")
        return await read(work)

    monkeypatch.setattr(shelf.database, "read", unreliable)
    async with aclosing(followers.follow(TaskFilter(), start, QUICK)) as stream:
        started = await anext(stream)
        early = [await anext(stream), await anext(stream)]
        await succeed(shelf, task)
        _, told = await following(stream, succeeded)

    assert started == Started(start, complete=True)
    assert [one.counts.by_status for one in early if isinstance(one, Counted)] == [{TaskStatus.QUEUED: 1}]
    told += [one for one in early if isinstance(one, TaskChanged)]
    assert events(told) == {(task.id, 1), (task.id, 2)}
