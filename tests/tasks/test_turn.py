"""Whose turn it is: projects that wait take turns, however their tasks arrived."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from tasks.events import StatusChanged
from tasks.records import EventRecord, TaskRecord
from tasks.status import TaskStatus
from tasks.turn import next_turn, queue_positions
from tests.clients import eventually
from tests.tasks.conftest import Shelf
from tests.tasks.node import node, order, until, vendor

pytestmark = pytest.mark.anyio


def arrive(shelf: Shelf, session: Session, project: str) -> TaskRecord:
    """A task of a project, stored as `tasks.start` does it."""
    record = TaskRecord(
        provider="tiny", project=project, sandbox=True, request={}, prompt="", fingerprint="", tags=[], notices=[]
    )
    record.turn = next_turn(session, project, record.provider)
    shelf.journal.open(record, StatusChanged(TaskStatus.QUEUED), session)
    return record


def waiting(session: Session) -> list[TaskRecord]:
    """Those that wait, in the order in which they are run."""
    queued = select(TaskRecord).where(col(TaskRecord.status) == TaskStatus.QUEUED)
    return list(session.exec(queued.order_by(col(TaskRecord.turn), col(TaskRecord.number))).all())


def run_next(session: Session) -> None:
    """The next one waits no more."""
    for one in waiting(session)[:1]:
        statement = update(TaskRecord).where(col(TaskRecord.id) == one.id).values(status=TaskStatus.RUNNING)
        session.connection().execute(statement)


def empty(session: Session) -> None:
    for table in (EventRecord, TaskRecord):
        session.connection().execute(delete(table))


def lead(projects: list[str]) -> int:
    """By how many turns one project ever gets ahead of another while both wait."""
    most = 0
    for served in range(len(projects) + 1):
        had, waits = Counter(projects[:served]), set(projects[served:])
        most = max([most, *(abs(had[one] - had[other]) for one, other in combinations(waits, 2))])
    return most


@pytest.mark.parametrize(
    ("arrivals", "ahead"),
    [
        (st.lists(st.sampled_from("ABC"), max_size=30), 1),
        # Whoever has just had a turn and comes again goes behind one who waits.
        (st.lists(st.sampled_from(["A", "B", "C", "run"]), max_size=30), 2),
    ],
    ids=["all wait", "some are run meanwhile"],
)
async def test_projects_that_wait_take_turns_whatever_the_order_of_arrival(
    shelf: Shelf, arrivals: st.SearchStrategy[list[str]], ahead: int
) -> None:
    loop = asyncio.get_running_loop()

    def arrived(session: Session, what: list[str]) -> list[TaskRecord]:
        empty(session)
        for one in what:
            if one == "run":
                run_next(session)
            else:
                arrive(shelf, session, one)
        return waiting(session)

    async def queue_of(what: list[str]) -> tuple[list[TaskRecord], dict[str, int]]:
        queue = await shelf.database.write(lambda session: arrived(session, what))
        return queue, await queue_positions(shelf.database, [one.id for one in queue])

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @example(["A"] * 6 + ["run"] * 5 + ["A"] * 3 + ["B"] * 3)
    @given(arrivals)
    def check(what: list[str]) -> None:
        queue, positions = asyncio.run_coroutine_threadsafe(queue_of(what), loop).result(60)
        assert positions == {one.id: place for place, one in enumerate(queue, start=1)}
        for project in "ABC":
            numbers = [one.number for one in queue if one.project == project]
            assert numbers == sorted(numbers, key=lambda number: number or 0), "its own tasks stay in order"
        assert lead([one.project for one in queue]) <= ahead

    await asyncio.to_thread(check)


async def test_a_project_with_many_tasks_does_not_keep_another_one_waiting(tmp_path: Path, with_tables: str) -> None:
    async with vendor(tmp_path) as studio, node(studio, tmp_path, with_tables, concurrency=1) as at:
        running = await at.start(order("tiny", seconds=50))
        await until(at, running, TaskStatus.RUNNING)
        tasks = [await at.start(order("tiny", project=project)) for project in (*("many",) * 5, "few", "few")]
        assert await at.queue_position(running) is None
        assert [await at.queue_position(task) for task in tasks] == [1, 3, 5, 6, 7, 2, 4]
        projects = {task.id: task.project for task in tasks}
        await at.cancel(running.id)

        async def all_paid() -> list[str]:
            paid = [charge.reference or "" for charge in await studio.ledger.charges()]
            return paid if len(paid) == 8 else []

        paid = await eventually(all_paid)

    assert [projects[task_id] for task_id in paid[1:]] == ["many", "few", "many", "few", "many", "many", "many"]
