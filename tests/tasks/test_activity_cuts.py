"""Following all tasks over a line that is cut again and again: nothing is skipped, and it comes to an end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.activity import Follower, Started, TaskChanged, changes_of
from tasks.activity_log import ActivityLog, LoggedEvent, Position
from tasks.events import NoticeGiven, TaskEvent
from tasks.history import TaskFilter
from tasks.records import TaskRecord, now
from tasks.status import TaskStatus
from tasks.tables import new_task
from tests.tasks.conftest import Shelf
from tests.tasks.test_activity import QUICK, SECONDS, activities, events, succeed

pytestmark = pytest.mark.anyio

TASKS = [
    new_task(id=f"task-{name}", provider=provider, sandbox=True, request={}, prompt="x", fingerprint="x")
    for name, provider in [("a", "seen"), ("b", "seen"), ("c", "seen"), ("d", "not seen")]
]
FILTER = TaskFilter(providers=["seen"])
LOGS = st.lists(st.sampled_from(TASKS), max_size=30)


def logged(order: list[TaskRecord]) -> list[LoggedEvent]:
    """A log with an event for each of these tasks."""
    return [
        LoggedEvent(
            Position(0, number), task, TaskEvent(task, number, now(), NoticeGiven("x", None)), {TaskStatus.QUEUED}
        )
        for number, task in enumerate(order, 1)
    ]


def wanted(log: list[LoggedEvent]) -> set[tuple[str, int]]:
    return {(one.task.id, one.position.position) for one in log if one.task.provider == "seen"}


def told_after(log: list[LoggedEvent], after: Position, end: int, replayed: int) -> list[TaskChanged]:
    """What is told of a log up to an end, of which some was there before somebody came back."""
    follower = Follower(FILTER, Position(0, max(replayed, after.position)))
    follower.offer(log[:end])
    behind = Follower(FILTER, after)
    behind.offer(log[:replayed])
    follower.put_before(behind)
    news = follower.take()
    assert news is not None
    return changes_of(news, follower.seen)


@given(order=LOGS, data=st.data())
def test_wherever_it_is_cut_nothing_is_skipped(order: list[TaskRecord], data: st.DataObject) -> None:
    log = logged(order)
    seen: set[tuple[str, int]] = set()
    at = Position(0, 0)
    for _ in range(len(log) + 1):
        end = data.draw(st.integers(at.position, len(log)))
        told = told_after(log, at, end, data.draw(st.integers(at.position, end)))
        told = told[: data.draw(st.integers(0, len(told)))]
        seen |= events(told)
        at = told[-1].position if told else at
        # Everything up to there has been told.
        assert wanted(log[: at.position]) <= seen
    seen |= events(told_after(log, at, len(log), len(log)))

    assert seen == wanted(log)


@given(order=LOGS, most=st.integers(1, 3))
def test_every_change_leads_further(order: list[TaskRecord], most: int) -> None:
    log = logged(order)
    at, seen = Position(0, 0), set[tuple[str, int]]()
    while told := told_after(log, at, len(log), len(log))[:most]:
        assert [one.position for one in told] == sorted({one.position for one in told})
        assert at < told[0].position
        seen |= events(told)
        at = told[-1].position

    assert seen == wanted(log)


@pytest.mark.parametrize("messages", [2, 3, 5])
async def test_whoever_is_cut_off_after_a_few_messages_each_time_gets_through(shelf: Shelf, messages: int) -> None:
    followers = activities(shelf)
    at = await ActivityLog(shelf.database).end()
    tasks = [await shelf.claimed() for _ in range(6)]
    for task in reversed(tasks):
        await succeed(shelf, task)
    whole = {(task.id, sequence) for task in tasks for sequence in (1, 2)}
    seen: set[tuple[str, int]] = set()
    async with asyncio.timeout(SECONDS):
        # What other tests do on this PostgreSQL server may hide the end of the log for a while.
        while not whole <= seen:
            async with aclosing(followers.follow(TaskFilter(), at, QUICK)) as stream:
                first = await anext(stream)
                assert isinstance(first, Started)
                assert (first.position, first.complete) == (at, True)
                for _ in range(messages - 1):
                    activity = await anext(stream)
                    assert activity.position >= at
                    at = activity.position
                    if isinstance(activity, TaskChanged):
                        seen |= events([activity])
                    if whole <= seen:
                        break

    assert whole <= seen


async def test_what_was_missed_and_what_a_follower_is_told_from_then_on_are_everything(shelf: Shelf) -> None:
    followers = activities(shelf)
    start = await ActivityLog(shelf.database).end()
    async with asyncio.timeout(SECONDS), aclosing(followers.follow(TaskFilter(), start, QUICK)) as stream:
        tasks = [await shelf.claimed() for _ in range(4)]
        for task in tasks:
            await succeed(shelf, task)
        whole = {(task.id, sequence) for task in tasks for sequence in (1, 2)}
        told: list[TaskChanged] = []
        beginnings: list[set[tuple[str, int]]] = []
        # Somebody comes back at every moment, also while the follower has been told a part of what it was offered.
        while not whole <= events(told):
            activity = await anext(stream)
            beginnings = [one | events([activity] if isinstance(activity, TaskChanged) else []) for one in beginnings]
            told += [activity] if isinstance(activity, TaskChanged) else []
            missed = await followers.missed(TaskFilter(), start)
            assert missed[0] == Started(start, complete=True)
            beginnings.append(events([one for one in missed if isinstance(one, TaskChanged)]))

    assert len(beginnings) > 4
    assert all(whole <= one for one in beginnings)
