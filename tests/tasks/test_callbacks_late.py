"""A vendor that pushes its results: whatever it sends, and whenever, is kept, and paid for once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import tasks.run
from providers.errors import FailureCode, Transport
from tasks.darkroom import MOST_IDLE_RUNS, Darkroom
from tasks.ending import Ending
from tasks.errors import StorageError
from tasks.events import Failed, ImageReady, StatusChanged, Succeeded
from tasks.records import TaskRecord, now
from tasks.status import TaskStatus
from tasks.tables import CALLBACKS
from tests.clients import eventually
from tests.tasks.node import Vendor, ended, node, order, pictures, until, vendor
from tests.tasks.test_repair import LONG_AGO, change, idle, row
from tests.tasks.test_run import picture

pytestmark = pytest.mark.anyio


@pytest.fixture
async def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Vendor]:
    """The vendor of this test; what it says about its tasks is said by the test."""
    monkeypatch.setenv("DARKROOM_PLACEWISE_RESULTS", "push")
    async with vendor(tmp_path) as made:
        yield made


async def deliver(at: Darkroom, task: TaskRecord, body: bytes, media_type: str = "image/png") -> None:
    """What the vendor sends to the task's callback."""
    wanted = select(CALLBACKS.c.token).where(CALLBACKS.c.task_id == task.id)
    token = await at._database.read(lambda connection: connection.execute(wanted).scalar_one())
    assert await at.callbacks.deliver(token, media_type, body)


async def repaired(at: Darkroom, task: TaskRecord) -> None:
    """Wait until a task that is listened to, if it is, has been."""
    await change(at, task, created_at=now() - LONG_AGO / 4)
    await idle(at)
    await at._upkeep._repair.stale()

    async def heard() -> bool:
        return not (await row(at, task)).listening and task.id not in at._engine.running

    await eventually(heard)


async def in_the_post(at: Darkroom) -> TaskRecord:
    """A task whose server died while the request was on its way. Its queue has it still."""
    task = await at.start(order("placewise"))
    await at.callbacks.open(task, "http://127.0.0.1")
    sent = {"status": TaskStatus.SUBMITTING, "transport": Transport.PERHAPS_SENT.value, "submitted_at": now()}
    await change(at, task, run=1, **sent)
    return task


async def test_a_picture_that_comes_after_the_task_was_given_up_is_kept_as_late(
    studio: Vendor, tmp_path: Path, with_tables: str
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        task = await at.start(order("placewise", "[[sandbox: lose=response]]"))
        last = (await ended(at, task))[-1].change
        await deliver(at, task, picture())
        await repaired(at, task)
        kept = await pictures(at, task)
        runs = (await row(at, task)).run
        await deliver(at, task, picture())
        await repaired(at, task)
        again, after = await pictures(at, task), await row(at, task)

    assert isinstance(last, Failed)
    assert last.failure.code is FailureCode.OUTCOME_UNKNOWN
    assert [image.late for image in kept] == [True]
    assert again == kept, "the same one again changes nothing"
    assert (after.status, after.run) == (TaskStatus.FAILED, runs + 1), "and makes one run at most"
    assert await studio.charges(task.id) == 1


async def test_a_picture_that_came_before_the_task_was_given_up_is_kept_as_late(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        fail = Ending.fail

        async def report_first(self: Ending, *args: Any, **options: Any) -> None:
            await deliver(at, task, picture())
            await fail(self, *args, **options)

        with monkeypatch.context() as patched:
            patched.setattr(Ending, "fail", report_first)
            task = await at.start(order("placewise", "[[sandbox: lose=response]]"))
            await ended(at, task)
        await repaired(at, task)

        assert [image.late for image in await pictures(at, task)] == [True]


async def test_a_report_that_makes_no_picture_is_heard_once(studio: Vendor, tmp_path: Path, with_tables: str) -> None:
    report = b'{"image_generation_task": {"status": "failed", "error": "no"}}'
    async with node(studio, tmp_path, with_tables) as at:
        task = await at.start(order("placewise", "[[sandbox: lose=response]]"))
        await ended(at, task)
        await deliver(at, task, report, "application/json")
        for _ in range(3):
            await repaired(at, task)
        after = await row(at, task)

    assert (after.status, after.run) == (TaskStatus.FAILED, 2)


async def test_a_report_proves_that_a_request_arrived_that_nobody_saw_the_answer_of(
    studio: Vendor, tmp_path: Path, with_tables: str
) -> None:
    async with node(studio, tmp_path, with_tables, works=False) as api:
        before, meanwhile = await in_the_post(api), await in_the_post(api)
        await deliver(api, before, picture())
    async with node(studio, tmp_path, with_tables) as at:

        async def waiting() -> bool:
            return (await row(at, meanwhile)).run == 2

        await eventually(waiting)
        await deliver(at, meanwhile, picture())
        for task in (before, meanwhile):
            told = [event.change for event in await ended(at, task)]
            assert told[1:] == [StatusChanged(TaskStatus.RUNNING), told[2], Succeeded()]
            assert isinstance(told[2], ImageReady)
            assert (await row(at, task)).transport == Transport.ACCEPTED.value
            assert await studio.charges(task.id) == 0, "nothing is posted"


async def test_a_request_that_nobody_reports_on_has_an_unknown_outcome_until_somebody_does(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.run, "FIND_SECONDS", 0.01)
    async with node(studio, tmp_path, with_tables, works=False) as api:
        task = await in_the_post(api)
    async with node(studio, tmp_path, with_tables) as at:
        last = (await ended(at, task))[-1].change
        unknown = await row(at, task)
        monkeypatch.setattr(tasks.run, "FIND_SECONDS", 300)
        await deliver(at, task, picture())
        await repaired(at, task)
        kept = await pictures(at, task)

    assert isinstance(last, Failed)
    assert (last.failure.code, last.failure.billed) == (FailureCode.OUTCOME_UNKNOWN, None)
    assert "still reports" in last.failure.message
    assert unknown.transport == Transport.PERHAPS_SENT.value
    assert [image.late for image in kept] == [True]


async def test_a_picture_that_the_store_could_not_give_back_is_kept_when_it_can_and_not_asked_for_for_ever(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(key: str) -> bytes:
        raise StorageError(f"{key} cannot be read: 503 SlowDown")

    async with node(studio, tmp_path, with_tables, storage_patience_seconds=0) as at:
        patient, hopeless = [await at.start(order("placewise")) for _ in range(2)]
        with monkeypatch.context() as patched:
            patched.setattr(at.images, "kept", away)
            for task in (patient, hopeless):
                await until(at, task, TaskStatus.RUNNING)
                await deliver(at, task, picture())
                last = (await ended(at, task))[-1].change
                assert isinstance(last, Failed)
                assert last.failure.code is FailureCode.STORAGE_FAILED
            for _ in range(2 * MOST_IDLE_RUNS):
                await change(at, hopeless, created_at=now() - LONG_AGO / 4)
                await at._upkeep._repair.stale()
                await idle(at)
        await repaired(at, patient)
        kept = await pictures(at, patient)
        given_up = await row(at, hopeless)

    assert [image.late for image in kept] == [True]
    assert not given_up.listening
    assert given_up.run <= MOST_IDLE_RUNS + 2
