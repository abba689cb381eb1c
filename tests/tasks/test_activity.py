"""Following all tasks: nothing is skipped, states are never left out, and every position is safe to resume from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from providers.contract import ProgressOrigin
from providers.errors import Transport
from tasks.activity import Activities, Activity, Counted, Started, TaskChanged
from tasks.activity_log import ActivityLog, LoggedEvent, Position, position_of
from tasks.counts import Counts
from tasks.database import Database
from tasks.events import Failed, NoticeGiven, Progressed, RetryScheduled, StatusChanged, Succeeded
from tasks.failure import unknown_provider
from tasks.feed import Feed
from tasks.history import TaskFilter
from tasks.records import TaskRecord, now
from tasks.status import TaskStatus
from tasks.tables import TASKS
from tests.tasks.conftest import Shelf

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_safety_net")]
SECONDS = 20
QUICK = 1000.0


def activities(shelf: Shelf) -> Activities:
    return Activities(ActivityLog(shelf.database), shelf.feed, Counts(shelf.database))


async def following(
    stream: AsyncGenerator[Activity, None], enough: Callable[[list[TaskChanged]], bool]
) -> tuple[list[Started], list[TaskChanged]]:
    """What is told, up to what is enough.

    It may begin with what happened before: on PostgreSQL the oldest transaction of the whole server holds back the end
    of the log, and other tests have theirs.
    """
    started: list[Started] = []
    told: list[TaskChanged] = []
    async with asyncio.timeout(SECONDS):
        async for activity in stream:
            if isinstance(activity, Started):
                started.append(activity)
            if isinstance(activity, TaskChanged):
                told.append(activity)
            if told and enough(told):
                break
    return started, told


def succeeded(told: list[TaskChanged]) -> bool:
    """Whether the last thing told is the end of a task."""
    return any(isinstance(event.change, Succeeded) for event in told[-1].events)


def events(told: list[TaskChanged]) -> set[tuple[str, int]]:
    return {(one.task.id, event.sequence) for one in told for event in one.events}


async def succeed(shelf: Shelf, task: TaskRecord) -> None:
    await shelf.journal.append(task, Succeeded(), status=TaskStatus.SUCCEEDED, finished_at=now())


async def test_what_happened_before_is_not_told_and_what_happens_then_is(shelf: Shelf) -> None:
    old = await shelf.claimed()
    async with aclosing(activities(shelf).follow(TaskFilter(), None, QUICK)) as stream:
        first = await anext(stream)
        assert isinstance(first, Started)
        assert first.complete
        counted = await anext(stream)
        assert isinstance(counted, Counted)
        assert counted.counts.by_status == {TaskStatus.QUEUED: 1}
        await succeed(shelf, old)
        _, told = await following(stream, succeeded)

    assert (told[-1].task.id, told[-1].task.status) == (old.id, TaskStatus.SUCCEEDED)


async def test_states_are_all_told_and_of_reports_only_the_newest(shelf: Shelf) -> None:
    task = await shelf.claimed()
    followers = activities(shelf)
    async with aclosing(followers.follow(TaskFilter(), None, QUICK)) as stream:
        start = await anext(stream)
        task = await shelf.journal.append(task, StatusChanged(TaskStatus.RUNNING), status=TaskStatus.RUNNING)
        for number in range(20):
            task = await shelf.journal.append(task, Progressed(number / 20, ProgressOrigin.REPORTED, None))
        await succeed(shelf, task)
    async with aclosing(followers.follow(TaskFilter(), start.position, QUICK)) as stream:
        _, told = await following(stream, succeeded)

    kinds = [type(event.change) for one in told for event in one.events if event.sequence > 1]
    assert kinds == [StatusChanged, Progressed, Succeeded]
    assert sum(one.missed for one in told) == 19


async def test_every_position_is_safe_to_resume_from(shelf: Shelf) -> None:
    followers = activities(shelf)
    async with aclosing(followers.follow(TaskFilter(), None, QUICK)) as stream:
        start = (await anext(stream)).position
    tasks = [await shelf.claimed() for _ in range(3)]
    for task in tasks:
        task = await shelf.journal.append(task, NoticeGiven("x", None))
        await succeed(shelf, task)
    async with aclosing(followers.follow(TaskFilter(), start, QUICK)) as stream:
        _, whole = await following(stream, lambda told: len(events(told)) == 9)

    for cut in range(1, len(whole)):
        seen = events(whole[:cut])
        async with aclosing(followers.follow(TaskFilter(), whole[cut - 1].position, QUICK)) as stream:
            async with asyncio.timeout(SECONDS):
                async for activity in stream:
                    if isinstance(activity, TaskChanged):
                        seen |= events([activity])
                    if len(seen) == 9:
                        break


async def test_a_task_that_leaves_the_filter_is_told_once_more(shelf: Shelf) -> None:
    task = await shelf.claimed()
    running = TaskFilter(statuses=[TaskStatus.RUNNING])
    async with aclosing(activities(shelf).follow(running, None, QUICK)) as stream:
        await anext(stream)
        await shelf.journal.append(task, NoticeGiven("of no interest", None))
        task = await shelf.journal.append(task, StatusChanged(TaskStatus.RUNNING), status=TaskStatus.RUNNING)
        await succeed(shelf, task)
        _, told = await following(stream, succeeded)

    assert told[-1].task.status is TaskStatus.SUCCEEDED
    assert {3, 4} <= {event.sequence for one in told for event in one.events}


@pytest.mark.parametrize("live", [True, False], ids=["as it happens", "coming back after a restart"])
@pytest.mark.parametrize(
    ("status", "sequences"),
    [
        (TaskStatus.QUEUED, [1, 2, 4, 5]),
        (TaskStatus.SUBMITTING, [2, 4, 5, 6]),
        (TaskStatus.RUNNING, [6, 7]),
        (TaskStatus.FAILED, [7]),
        (TaskStatus.CANCELED, []),
    ],
)
async def test_whoever_wants_tasks_in_one_state_hears_of_those_that_enter_and_leave_it(
    shelf: Shelf, live: bool, status: TaskStatus, sequences: list[int]
) -> None:
    wanted = TaskFilter(statuses=[status, TaskStatus.SUCCEEDED])
    failure = unknown_provider("x", Transport.NOT_SENT)
    start = await ActivityLog(shelf.database).end()
    async with aclosing(activities(shelf).follow(wanted, None, QUICK)) as stream:
        await anext(stream)
        task = await shelf.claimed()
        for change, becomes in (
            (StatusChanged(TaskStatus.SUBMITTING), TaskStatus.SUBMITTING),
            (NoticeGiven("x", None), TaskStatus.SUBMITTING),
            (RetryScheduled(2, now(), failure), TaskStatus.QUEUED),
            (StatusChanged(TaskStatus.SUBMITTING), TaskStatus.SUBMITTING),
            (StatusChanged(TaskStatus.RUNNING), TaskStatus.RUNNING),
            (Failed(failure), TaskStatus.FAILED),
        ):
            task = await shelf.journal.append(task, change, status=becomes)
        await succeed(shelf, await shelf.claimed())
        if live:
            _, told = await following(stream, succeeded)
        else:
            async with aclosing(activities(shelf).follow(wanted, start, QUICK)) as again:
                _, told = await following(again, succeeded)

    moves = [event.sequence for one in told if one.task.id == task.id for event in one.events if event.sequence != 3]
    assert moves == sequences


# SQLite has one writer: nothing commits late.
@pytest.mark.parametrize("with_tables", ["postgresql"], indirect=True)
async def test_a_row_that_committed_late_is_not_skipped(shelf: Shelf) -> None:
    early, late = await shelf.claimed(), await shelf.claimed()
    log = ActivityLog(shelf.database)
    start = await log.end()
    loop = asyncio.get_running_loop()
    written, commit = asyncio.Event(), asyncio.Event()

    def dawdle(connection: Connection) -> None:
        shelf.journal.change(connection, [TASKS.c.id == late.id], NoticeGiven("late", None))
        loop.call_soon_threadsafe(written.set)
        asyncio.run_coroutine_threadsafe(commit.wait(), loop).result()

    dawdling = asyncio.create_task(shelf.database.write(dawdle))
    await asyncio.wait_for(written.wait(), SECONDS)
    await shelf.journal.append(early, NoticeGiven("early", None))
    before = await log.after(start)
    commit.set()
    await dawdling
    async with asyncio.timeout(SECONDS):
        while len(after := _noted(await log.after(start))) < 2:  # noqa: ASYNC110 - other tests' transactions
            await asyncio.sleep(0.01)

    assert not _noted(before)
    assert after == [late.id, early.id]


def _noted(logged: Sequence[LoggedEvent]) -> list[str]:
    return [one.task.id for one in logged if one.event is not None and isinstance(one.event.change, NoticeGiven)]


async def test_whoever_resumes_from_too_far_back_begins_anew(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.activity.MOST_PAGES", 0)
    followers = activities(shelf)
    start = await ActivityLog(shelf.database).end()
    await shelf.claimed()
    async with aclosing(followers.follow(TaskFilter(), start, QUICK)) as stream:
        first = await anext(stream)

    assert isinstance(first, Started)
    assert not first.complete


@pytest.mark.parametrize("gone", ["ahead", "in the place of another event"])
async def test_whoever_was_there_before_a_back_up_was_restored_begins_anew(shelf: Shelf, gone: str) -> None:
    await shelf.claimed()
    log = ActivityLog(shelf.database)
    (last,) = await _all(log, 1)
    if gone == "ahead":
        was = replace(last, position=last.position + 5000, at=last.at + 1)
    else:
        was = replace(last, at=last.at - 1)
    async with aclosing(activities(shelf).follow(TaskFilter(), was, QUICK)) as stream:
        first = await anext(stream)

    assert isinstance(first, Started)
    assert not first.complete
    assert await log.holds(first.position)


async def test_whoever_comes_from_a_node_that_has_read_further_has_missed_nothing(shelf: Shelf) -> None:
    feed = Feed()
    behind = Activities(ActivityLog(shelf.database), feed, Counts(shelf.database))
    async with aclosing(behind.follow(TaskFilter(), None, QUICK)) as other:
        await anext(other)
        task = await shelf.claimed()
        position = (await _all(ActivityLog(shelf.database), 1))[-1]
        async with aclosing(behind.follow(TaskFilter(), position, QUICK)) as stream:
            first = await anext(stream)
            await succeed(shelf, task)
            feed.hint(task.id)
            _, told = await following(stream, succeeded)

    assert first == Started(position, complete=True)
    assert {(task.id, 2)} <= events(told)


class Looked(ActivityLog):
    """A log that says when its end has been looked at."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.looked = asyncio.Event()

    async def after(self, position: Position) -> Sequence[LoggedEvent]:
        found = await super().after(position)
        self.looked.set()
        return found


async def test_after_a_time_of_lost_hints_whoever_follows_is_told(shelf: Shelf) -> None:
    deaf, log = Feed(), Looked(shelf.database)
    async with aclosing(Activities(log, deaf, Counts(shelf.database)).follow(TaskFilter(), None, QUICK)) as stream:
        await anext(stream)
        await asyncio.wait_for(log.looked.wait(), SECONDS)
        task = await shelf.claimed()
        await succeed(shelf, task)
        deaf.hint_all()
        _, told = await following(stream, succeeded)

    assert (task.id, 2) in events(told)


async def _all(log: ActivityLog, count: int) -> list[Position]:
    """Where the first events are, when they can be read: other tests have transactions, too."""
    async with asyncio.timeout(SECONDS):
        while len(found := await log.after(Position(0, 0))) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return [one.position for one in found]


async def test_nothing_is_left_behind_when_nobody_follows(shelf: Shelf) -> None:
    followers = activities(shelf)
    streams: list[Any] = [followers.follow(TaskFilter(), None, QUICK) for _ in range(3)]
    for stream in streams:
        await anext(stream)
    assert len(followers) == 3
    for stream in streams:
        await stream.aclose()

    assert len(followers) == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "activity" and not task.cancelling()]


def test_a_cursor_leads_back_to_its_position() -> None:
    position = Position(12, 345, 6789)
    found = position_of(position.cursor)
    assert (found, found.at) == (position, 6789)
