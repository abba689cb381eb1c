"""Our own things may be away for a while: nothing that happened meanwhile is lost, and nothing is written twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlmodel import func, select

from providers.contract import (
    Accepted,
    FinalImage,
    PartialImage,
    Progress,
    ProgressOrigin,
    ProviderEvent,
    Submission,
    Usage,
)
from providers.errors import FailureCode
from tasks import engine
from tasks.arrivals import Arrivals
from tasks.callbacks import Callbacks
from tasks.database import Database
from tasks.errors import DatabaseUnavailableError, StorageError
from tasks.events import (
    Failed,
    ImageReady,
    NoticeGiven,
    PartialImageReady,
    Progressed,
    StatusChanged,
    Succeeded,
    UsageReported,
)
from tasks.images import ImageStore
from tasks.keeper import Keeper
from tasks.records import EventRecord, ImageRecord
from tasks.status import TaskStatus
from tests.tasks.conftest import Shelf
from tests.tasks.node import Vendor, darkroom, ended, node, order, pictures, until, vendor
from tests.tasks.test_run import Scripted, picture, run, workplace

pytestmark = pytest.mark.anyio

TOLD: list[ProviderEvent] = [
    Accepted(Submission("1")),
    Progress(0.5, ProgressOrigin.ESTIMATED),
    Progress(0.5, ProgressOrigin.ESTIMATED),
    PartialImage(0, 0, picture("blue")),
    FinalImage(0, picture()),
    Usage(None, None, 7, {"total": 7}),
]
SEEN = [
    StatusChanged,
    StatusChanged,
    StatusChanged,
    Progressed,
    Progressed,
    PartialImageReady,
    ImageReady,
    UsageReported,
    Succeeded,
]
"""What is recorded of it: every event once."""


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Vendor]:
    """The vendor of this test."""
    async with vendor(tmp_path) as made:
        yield made


class Unreliable:
    """A database whose every transaction fails at first: before it has happened, or after, with the answer lost."""

    def __init__(self, database: Database, *, committed: bool) -> None:
        self._write = database.write
        self._committed = committed
        self._failing = True
        self.failures = 0

    async def write(self, work: Callable[[Connection], Any]) -> Any:
        self._failing = not self._failing
        if self._failing:
            return await self._write(work)
        self.failures += 1
        if self._committed:
            await self._write(work)
        raise DatabaseUnavailableError("the connection was lost", perhaps_committed=self._committed)


@pytest.mark.parametrize("committed", [False, True], ids=["never committed", "committed, but the answer was lost"])
async def test_a_database_that_comes_and_goes_costs_no_event_and_doubles_none(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    task = await shelf.claimed()
    provider = Scripted(TOLD)
    unreliable = Unreliable(shelf.database, committed=committed)
    with monkeypatch.context() as patch:
        patch.setattr(shelf.database, "write", unreliable.write)
        changes = await run(shelf, provider, task)
    row, events = await shelf.history.events(task.id, 0)
    images = (await shelf.history.images_of([task.id]))[task.id]

    assert unreliable.failures >= len(SEEN) - 1
    assert [type(change) for change in changes] == SEEN
    assert [event.sequence for event in events] == list(range(1, len(SEEN) + 1))
    assert row is not None
    assert (row.status, row.last_sequence) == (TaskStatus.SUCCEEDED, len(SEEN))
    assert sorted((image.kind.value, image.late) for image in images) == [("final", False), ("partial", False)]
    assert provider.posts == 1


async def test_a_database_that_is_away_when_a_job_is_taken_up_again_costs_no_picture(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        job = await at.start(order("all_images", "[[sandbox: pause=0.1]]"))
        await until(at, job, TaskStatus.RUNNING)
    again = darkroom(studio, tmp_path, with_tables)
    images_of, tries = again.history.images_of, iter([1, 2])

    async def away(task_ids: Any) -> Any:
        for _ in tries:
            raise DatabaseUnavailableError("the connection was lost")
        return await images_of(task_ids)

    monkeypatch.setattr(again.history, "images_of", away)
    await again.open()
    try:
        events = await ended(again, job)
        images = await pictures(again, job)
        row = await again.history.task(job.id)
    finally:
        await again.close()

    assert isinstance(events[-1].change, Succeeded)
    assert [image.index for image in images] == [0, 1, 2, 3]
    assert row is not None
    assert row.idle_runs == 0
    assert await studio.charges(job.id) == 1


async def test_a_database_that_is_away_while_a_report_is_awaited_costs_no_report(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    callbacks = Callbacks(shelf.database, shelf.images, shelf.signals)
    callback = await callbacks.open(await shelf.claimed(), "http://127.0.0.1")
    await callbacks.deliver(callback.url.rpartition("/")[2], "image/png", picture())
    read, tries = shelf.database.read, iter([1, 2])

    async def away(work: Callable[[Connection], Any]) -> Any:
        for _ in tries:
            raise DatabaseUnavailableError("the connection was lost")
        return await read(work)

    monkeypatch.setattr(shelf.database, "read", away)
    async with aclosing(callback.deliveries()) as deliveries:
        assert (await anext(deliveries)).body == picture()


class Full(ImageStore):
    """A store that refuses so many times."""

    refusals = 0

    async def _put(self, key: str, data: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StorageError("no space left on device")
        await super()._put(key, data)


async def test_a_picture_that_the_store_refuses_for_a_while_is_held_and_stored_when_it_can_be(
    shelf: Shelf, tmp_path: Path
) -> None:
    task = await shelf.claimed()
    store = Full((tmp_path / "images").as_uri(), shelf.database)
    store.refusals = 4
    at = workplace(shelf, storage_patience=60, images=store)
    changes = await run(shelf, Scripted(TOLD), task, at=at)

    assert [type(change) for change in changes if not isinstance(change, NoticeGiven)] == [
        kind for kind in SEEN if kind is not PartialImageReady
    ], "an earlier stage is not worth waiting for"
    assert len([change for change in changes if isinstance(change, NoticeGiven)]) == 1
    (image,) = (await shelf.history.images_of([task.id]))[task.id]
    assert (await store.read(image)) == picture()


async def test_a_store_that_refuses_for_too_long_fails_the_task_and_says_that_it_was_paid(
    shelf: Shelf, tmp_path: Path
) -> None:
    task = await shelf.claimed()
    store = Full((tmp_path / "images").as_uri(), shelf.database)
    store.refusals = 1_000_000
    changes = await run(shelf, Scripted(TOLD), task, at=workplace(shelf, storage_patience=0.3, images=store))
    last = changes[-1]

    assert isinstance(last, Failed)
    assert (last.failure.code, last.failure.billed) == (FailureCode.STORAGE_FAILED, True)
    assert "no space left" in last.failure.message


async def test_a_server_that_is_stopped_while_its_store_refuses_does_not_wait_for_it(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LEAVING_SECONDS", 0.2)
    refused = asyncio.Event()

    put = ImageStore._put

    async def refuse(self: ImageStore, key: str, data: bytes) -> None:
        if not key.startswith("originals/"):
            await put(self, key, data)
            return
        refused.set()
        raise StorageError("no space left on device")

    monkeypatch.setattr(ImageStore, "_put", refuse)
    async with node(studio, tmp_path, with_tables, storage_patience_seconds=600) as at:
        await at.start(order("tiny"))
        await refused.wait()
        began = time.monotonic()
    assert time.monotonic() - began < 5


async def test_a_late_picture_is_kept_once_whatever_the_database_answers(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await shelf.claimed()
    await shelf.journal.claim(task.id)  # another run has it now
    unreliable = Unreliable(shelf.database, committed=True)
    with monkeypatch.context() as patch:
        patch.setattr(shelf.database, "write", unreliable.write)
        keeper = Keeper(task, shelf.journal, shelf.images, arrivals=Arrivals(shelf.images), storage_patience=0)
        for event in TOLD:
            await keeper.take(event)
        await keeper.end()
    count = select(func.count()).select_from(ImageRecord).where(ImageRecord.task_id == task.id)
    events = select(func.count()).select_from(EventRecord).where(EventRecord.task_id == task.id)

    assert await shelf.database.read(lambda connection: connection.execute(count).scalar_one()) == 1
    assert await shelf.database.read(lambda connection: connection.execute(events).scalar_one()) == 1
