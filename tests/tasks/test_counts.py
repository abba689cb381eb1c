"""The counters of a dashboard: right, and as cheap as what they count, however long the history is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Row, event

from tasks.counts import RECENTLY, Counts
from tasks.history import TaskFilter
from tasks.records import now
from tasks.status import TERMINAL, TaskStatus
from tasks.tables import TASKS, new_task, row_of
from tests.tasks.conftest import Shelf

pytestmark = pytest.mark.anyio


async def kept(shelf: Shelf, tasks: Iterable[tuple[TaskStatus, float, float | None]], provider: str = "a") -> None:
    """Tasks with a state, how many hours ago they ended, or began if they have not ended, and how many seconds they
    waited, if they have been sent."""
    rows = []
    for status, hours, wait in tasks:
        at = now() - hours * RECENTLY
        waited = timedelta(seconds=wait or 0)
        created, finished = (at - waited, at) if status in TERMINAL else (at, None)
        submitted = None if wait is None else created + waited
        task = new_task(provider=provider, sandbox=True, request={}, prompt="x", fingerprint="x", status=status)
        rows.append(row_of(task) | {"created_at": created, "submitted_at": submitted, "finished_at": finished})
    await shelf.database.write(lambda connection: connection.execute(TASKS.insert(), rows))


async def test_what_has_not_ended_counts_always_and_what_has_ended_for_an_hour(shelf: Shelf) -> None:
    await kept(
        shelf,
        [
            (TaskStatus.QUEUED, 0, None),
            (TaskStatus.RUNNING, 30, 7.25),
            (TaskStatus.SUCCEEDED, 0.5, 1.5),
            (TaskStatus.SUCCEEDED, 0.9, 0.125),
            (TaskStatus.SUCCEEDED, 1.1, 3000),
            (TaskStatus.FAILED, 0.2, None),
        ],
    )
    await kept(shelf, [(TaskStatus.SUCCEEDED, 0, 2.5)], provider="b")
    counts = Counts(shelf.database)
    found = await counts.of(TaskFilter())
    of_a = await counts.of(TaskFilter(providers=["a"]))
    succeeded = await counts.of(TaskFilter(providers=["a"], statuses=[TaskStatus.SUCCEEDED, TaskStatus.QUEUED]))

    assert found.by_status == {
        TaskStatus.QUEUED: 1,
        TaskStatus.RUNNING: 1,
        TaskStatus.SUCCEEDED: 3,
        TaskStatus.FAILED: 1,
    }
    assert found.median_wait == pytest.approx((1.5 + 2.5) / 2, abs=0.002)
    assert of_a.by_status[TaskStatus.SUCCEEDED] == 2
    assert of_a.median_wait == pytest.approx(1.5, abs=0.002)
    assert succeeded.by_status == {TaskStatus.SUCCEEDED: 2, TaskStatus.QUEUED: 1}
    assert succeeded.median_wait == pytest.approx((1.5 + 0.125) / 2, abs=0.002)


async def test_a_task_that_took_longer_than_an_hour_counts_when_it_has_ended_and_so_does_how_long_it_waited(
    shelf: Shelf,
) -> None:
    await kept(shelf, [(TaskStatus.SUCCEEDED, 0.1, 7200.0), (TaskStatus.FAILED, 0.9, 9000.0)])
    found = await Counts(shelf.database).of(TaskFilter())

    assert found.by_status == {TaskStatus.SUCCEEDED: 1, TaskStatus.FAILED: 1}
    assert found.median_wait == pytest.approx(8100, abs=0.002)


async def test_where_nothing_has_been_sent_there_is_no_wait(shelf: Shelf) -> None:
    await kept(shelf, [(TaskStatus.QUEUED, 0, None)])
    counts = await Counts(shelf.database).of(TaskFilter())

    assert (counts.by_status, counts.median_wait) == ({TaskStatus.QUEUED: 1}, None)
    assert (await Counts(shelf.database, "of somebody else").of(TaskFilter())).by_status == {}


async def asked(shelf: Shelf, before: str = "") -> list[Sequence[Row[Any]]]:
    """What the database answers to each statement that counts, with something put before it."""
    statements: list[tuple[str, Any]] = []

    def note(connection: Connection, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        # Servers of other tests may live in this process, each with a database of its own.
        if statement != "BEGIN" and connection.engine.url.database == shelf.database.url.database:
            statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        await Counts(shelf.database).of(TaskFilter())
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return await shelf.database.read(
        lambda connection: [connection.exec_driver_sql(before + one, values).all() for one, values in statements]
    )


async def test_nothing_but_the_counts_leaves_the_database(shelf: Shelf) -> None:
    await kept(shelf, [(TaskStatus.SUCCEEDED, 0.5, float(number)) for number in range(200)])

    assert [len(rows) for rows in await asked(shelf)] == [1, 2]


# How PostgreSQL reads depends on what it knows about the table.
@pytest.mark.parametrize("with_tables", ["sqlite"], indirect=True)
async def test_an_old_history_is_not_read(shelf: Shelf) -> None:
    await kept(shelf, [(TaskStatus.SUCCEEDED, 0.5, 1.0)])
    plans = await asked(shelf, "EXPLAIN QUERY PLAN ")
    reads = [[row.detail for row in plan if row.detail.startswith(("SCAN", "SEARCH"))] for plan in plans]

    by_time = "SEARCH task USING INDEX ix_task_status_task_finished_at"
    assert reads == [[f"{by_time} (status=?)", f"{by_time} (status=? AND finished_at>?)"]] * 2


async def test_a_thousand_who_ask_at_once_cost_one_look_per_filter(shelf: Shelf) -> None:
    counts = Counts(shelf.database)
    everything, queued = TaskFilter(), TaskFilter(statuses=[TaskStatus.QUEUED])
    found = await asyncio.gather(*(counts.of(filter) for filter in [everything, queued] * 500))

    assert len({id(one) for one in found}) == 2


async def test_an_answer_knows_what_had_happened_when_it_was_asked_for(shelf: Shelf) -> None:
    counts = Counts(shelf.database)
    early = asyncio.create_task(counts.of(TaskFilter()))
    await asyncio.sleep(0)
    await kept(shelf, [(TaskStatus.QUEUED, 0, None)])

    assert (await counts.of(TaskFilter())).by_status == {TaskStatus.QUEUED: 1}
    await early


async def test_one_who_does_not_wait_for_the_answer_takes_it_from_nobody(shelf: Shelf) -> None:
    counts = Counts(shelf.database)
    gone, waiting = (asyncio.create_task(counts.of(TaskFilter())) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()

    assert (await waiting).by_status == {}
