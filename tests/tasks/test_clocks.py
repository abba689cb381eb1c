"""Three clocks: what waits too long, takes too long, or both together, ends with a code of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from providers.contract import Accepted, FinalImage, Submission
from providers.errors import FailureCode, Transport
from tasks import run, upkeep
from tasks.clocks import Clocks
from tasks.darkroom import Darkroom
from tasks.events import Failed, ImageReady, RetryScheduled, Succeeded
from tasks.failure import Failure
from tasks.images import Stored
from tasks.records import TaskRecord, now
from tasks.status import TaskStatus
from tests.tasks.conftest import Shelf
from tests.tasks.node import Vendor, ended, node, order, pictures, until, vendor
from tests.tasks.test_run import Scripted, picture, workplace
from tests.tasks.test_run import run as run_once

pytestmark = pytest.mark.anyio

LONG = 600.0


@pytest.fixture(autouse=True)
def quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the next round."""
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.1)


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Vendor]:
    """The vendor of this test."""
    async with vendor(tmp_path) as made:
        yield made


async def failure(at: Darkroom, task: TaskRecord) -> Failure:
    """Why a task failed."""
    async with asyncio.timeout(20):
        last = (await ended(at, task))[-1].change
    assert isinstance(last, Failed)
    return last.failure


async def older(at: Darkroom, task: TaskRecord, seconds: float) -> None:
    """Let a task have been started, and sent, so long ago."""
    row = await at.history.task(task.id)
    assert row is not None
    by = timedelta(seconds=seconds)
    values = {"created_at": row.created_at - by, "submitted_at": row.submitted_at and row.submitted_at - by}
    statement = update(TaskRecord).where(col(TaskRecord.id) == task.id).values(**values)
    await at._database.write(lambda connection: connection.execute(statement))


@pytest.mark.parametrize(
    ("status", "queue", "generation", "total", "code"),
    [
        (TaskStatus.QUEUED, 60, LONG, LONG, FailureCode.QUEUE_TIMED_OUT),
        (TaskStatus.QUEUED, LONG, LONG, 60, FailureCode.TOTAL_TIMED_OUT),
        (TaskStatus.RUNNING, 60, 60, LONG, FailureCode.GENERATION_TIMED_OUT),
        (TaskStatus.RUNNING, 60, LONG, 70, FailureCode.TOTAL_TIMED_OUT),
        (TaskStatus.RUNNING, 60, 60, 65, FailureCode.TOTAL_TIMED_OUT),
    ],
)
def test_the_clock_that_runs_out_first_decides(
    status: TaskStatus, queue: float, generation: float, total: float, code: FailureCode
) -> None:
    at = now() - timedelta(seconds=5)
    task = TaskRecord(provider="tiny", sandbox=True, request={}, prompt="", fingerprint="", status=status)
    task.created_at, task.submitted_at = at - timedelta(seconds=10), None if status is TaskStatus.QUEUED else at
    clocks = Clocks(queue, generation, total)
    first = min(total - 15, queue - 15 if status is TaskStatus.QUEUED else generation - 5)

    assert clocks.left(task) == pytest.approx(first, abs=1)
    found = clocks.failure(task)
    assert found.code is code
    assert found.billed is (False if status is TaskStatus.QUEUED else None)
    assert f"DARKROOM_{code.name.removesuffix('_TIMED_OUT')}_SECONDS" in found.message
    assert found.retryable


async def test_what_waits_too_long_in_the_queue_ends_although_nobody_runs_it(
    studio: Vendor, tmp_path: Path, with_tables: str
) -> None:
    async with node(studio, tmp_path, with_tables, concurrency=1, queue_seconds=60) as at:
        blocking = await at.start(order("tiny", seconds=50))
        await until(at, blocking, TaskStatus.RUNNING)
        waiting = await at.start(order("tiny"))
        for task in (blocking, waiting):
            await older(at, task, 120)
        found = await failure(at, waiting)
        still = await at.history.task(blocking.id)

    assert (found.code, found.billed, found.transport) == (FailureCode.QUEUE_TIMED_OUT, False, Transport.NOT_SENT)
    assert await studio.charges(waiting.id) == 0
    assert still is not None
    assert still.status is TaskStatus.RUNNING, "it does not wait any more"


async def test_what_waits_too_long_for_another_attempt_ends_as_well(studio: Vendor, tmp_path: Path) -> None:
    async with node(studio, tmp_path, f"sqlite:///{tmp_path / 'darkroom.db'}", queue_seconds=2) as at:
        turned_away = await at.start(order("placewise", "[[sandbox: status=429 retry_after=30]]"))
        await until(at, turned_away, RetryScheduled)
        behind = await at.start(order("placewise"))

        assert (await failure(at, turned_away)).code is FailureCode.QUEUE_TIMED_OUT
        assert (await failure(at, behind)).code is FailureCode.QUEUE_TIMED_OUT
    assert await studio.charges(turned_away.id) == await studio.charges(behind.id) == 0


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"generation_seconds": 1.5}, FailureCode.GENERATION_TIMED_OUT),
        ({"total_seconds": 2}, FailureCode.TOTAL_TIMED_OUT),
    ],
)
async def test_a_generation_that_takes_too_long_is_given_up_and_perhaps_billed(
    studio: Vendor, tmp_path: Path, settings: dict[str, Any], code: FailureCode
) -> None:
    async with node(studio, tmp_path, f"sqlite:///{tmp_path / 'darkroom.db'}", **settings) as at:
        stream = await at.start(order("openai_images", "[[sandbox: pause=60]]", partial_images=1))
        job = await at.start(order("all_images", "[[sandbox: pause=60]]"))
        silent = await at.start(order("placewise", "[[sandbox: latency=60]]"))
        found = [await failure(at, task) for task in (stream, job, silent)]

    assert [one.code for one in found] == [code] * 3
    assert [one.billed for one in found] == [None] * 3
    assert [one.transport for one in found] == [Transport.ACCEPTED, Transport.ACCEPTED, Transport.PERHAPS_SENT]


async def test_what_has_waited_too_long_while_the_server_was_down_is_never_sent(
    studio: Vendor, tmp_path: Path, with_tables: str
) -> None:
    async with node(studio, tmp_path, with_tables, concurrency=1) as at:
        await until(at, await at.start(order("tiny", seconds=50)), TaskStatus.RUNNING)
        waiting = [await at.start(order("tiny")) for _ in range(4)]
        for task in waiting:
            await older(at, task, 120)
    async with node(studio, tmp_path, with_tables, queue_seconds=60) as at:
        found = [await failure(at, task) for task in waiting]

    assert {one.code for one in found} == {FailureCode.QUEUE_TIMED_OUT}
    assert [await studio.charges(task.id) for task in waiting] == [0] * 4


async def test_a_job_whose_time_ran_out_while_the_server_was_down_is_looked_at_once_more(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        done = await at.start(order("all_images", "[[sandbox: pause=0.05]]"))
        never = await at.start(order("placewise", "[[sandbox: pause=60]]"))
        for task in (done, never):
            await until(at, task, TaskStatus.RUNNING)
    async with node(studio, tmp_path, with_tables, generation_seconds=0.01) as at:
        async with asyncio.timeout(20):
            await ended(at, done)
        assert len(await pictures(at, done)) == 4
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.2)
    async with node(studio, tmp_path, with_tables, generation_seconds=0.01) as at:
        assert (await failure(at, never)).code is FailureCode.GENERATION_TIMED_OUT
    assert await studio.charges(done.id) == 1


async def test_a_task_whose_time_runs_out_while_its_last_picture_is_stored_has_succeeded(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, storing, expired = shelf.images.put, asyncio.Event(), asyncio.Event()

    class Heard(Clocks):
        """Tells when the time is up."""

        def failure(self, task: TaskRecord) -> Failure:
            expired.set()
            return super().failure(task)

    async def slow(data: bytes) -> Stored:
        if not expired.is_set():
            storing.set()
        async with asyncio.timeout(60):
            await expired.wait()
        return await put(data)

    monkeypatch.setattr(shelf.images, "put", slow)
    for seconds in (0.2, 2, 20):  # a machine that needs longer to get there is given it
        expired.clear()
        at = replace(workplace(shelf), clocks=Heard(queue=LONG, generation=seconds, total=LONG))
        changes = await run_once(shelf, Scripted([Accepted(Submission()), FinalImage(0, picture())]), at=at)
        if storing.is_set():
            break

    assert storing.is_set()
    assert expired.is_set()
    assert [type(change) for change in changes[-2:]] == [ImageReady, Succeeded]
