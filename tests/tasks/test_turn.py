"""Whose turn it is: projects that wait take turns, however their tasks arrived."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from tasks.events import StatusChanged
from tasks.records import TaskRecord
from tasks.status import TaskStatus
from tasks.tables import EVENTS, TASKS, new_task, task_of
from tasks.turn import next_turn, queue_positions
from tests.clients import eventually
from tests.tasks.conftest import Shelf
from tests.tasks.node import node, order, until, vendor

pytestmark = pytest.mark.anyio


def arrive(shelf: Shelf, connection: Connection, project: str) -> TaskRecord:
    """A task of a project, stored as `tasks.start` does it."""
    turn = next_turn(connection, project, "tiny")
    record = new_task(provider="tiny", project=project, turn=turn, sandbox=True, request={}, prompt="", fingerprint="")
    return shelf.journal.open(record, StatusChanged(TaskStatus.QUEUED), connection).task


def waiting(connection: Connection) -> list[TaskRecord]:
    """Those that wait, in the order in which they are run."""
    queued = select(TASKS).where(TASKS.c.status == TaskStatus.QUEUED).order_by(TASKS.c.turn, TASKS.c.number)
    return [task_of(row) for row in connection.execute(queued)]


def run_next(connection: Connection) -> None:
    """The next one waits no more."""
    for one in waiting(connection)[:1]:
        statement = TASKS.update().where(TASKS.c.id == one.id).values(status=TaskStatus.RUNNING)
        connection.execute(statement)


def empty(connection: Connection) -> None:
    for table in (EVENTS, TASKS):
        connection.execute(table.delete())


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

    def arrived(connection: Connection, what: list[str]) -> list[TaskRecord]:
        empty(connection)
        for one in what:
            if one == "run":
                run_next(connection)
            else:
                arrive(shelf, connection, one)
        return waiting(connection)

    async def queue_of(what: list[str]) -> tuple[list[TaskRecord], dict[str, int]]:
        queue = await shelf.database.write(lambda connection: arrived(connection, what))
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
