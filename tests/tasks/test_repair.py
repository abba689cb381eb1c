"""What crashes leave behind is put right, and what is needed is never tidied away."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from providers.contract import Accepted, Effective, FinalImage, Submission
from providers.errors import FailureCode
from tasks.arrivals import Arrival, Arrivals
from tasks.darkroom import MOST_IDLE_RUNS, Darkroom
from tasks.errors import StorageError
from tasks.events import Failed, ImageReady, NoticeGiven, StatusChanged, Succeeded
from tasks.keeper import Keeper
from tasks.records import ImageKind, TaskRecord, now
from tasks.status import TaskStatus
from tests.clients import eventually
from tests.tasks.conftest import Shelf
from tests.tasks.node import Vendor, ended, node, order, until, vendor
from tests.tasks.test_run import Scripted, picture, run, workplace

pytestmark = pytest.mark.anyio

LONG_AGO = timedelta(days=2)


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Vendor]:
    """The vendor of this test."""
    async with vendor(tmp_path) as made:
        yield made


async def change(at: Darkroom, task: TaskRecord, **values: Any) -> None:
    """Let the row of a task be otherwise."""
    statement = update(TaskRecord).where(col(TaskRecord.id) == task.id).values(**values)
    await at._database.write(lambda connection: connection.execute(statement))


async def row(at: Darkroom, task: TaskRecord) -> TaskRecord:
    """A task as it is now."""
    found = await at.history.task(task.id)
    assert found is not None
    return found


def files(home: Path) -> set[str]:
    """What is in the picture store."""
    return {str(path.relative_to(home / "images")) for path in (home / "images").rglob("*") if path.is_file()}


def age(home: Path, *keys: str) -> None:
    """Let files be old."""
    at = time.time() - LONG_AGO.total_seconds()
    for key in keys:
        os.utime(home / "images" / key, (at, at))


async def idle(at: Darkroom) -> None:
    """Wait until nothing runs there any more."""

    async def nothing() -> bool:
        return not at._engine.running

    await eventually(nothing)


async def test_a_task_that_no_queue_knows_is_queued_again_and_paid_once(
    studio: Vendor, tmp_path: Path, with_tables: str
) -> None:
    async with node(studio, tmp_path, with_tables, works=False) as api:
        never_queued, young = await api.start(order("tiny")), await api.start(order("tiny"))
        for task in (never_queued, young):
            await api._database.outside(lambda: api._engine._open_client.delete_workflow(task.id))  # noqa: B023
        await change(api, never_queued, created_at=now() - LONG_AGO / 4)
    async with node(studio, tmp_path, with_tables) as at:
        assert isinstance((await ended(at, never_queued))[-1].change, Succeeded)
        assert (await row(at, young)).status is TaskStatus.QUEUED, "it may just be on its way into the queue"
        assert await studio.charges(young.id) == 0
        await at._upkeep._repair.stale()
        await at._upkeep._repair.stale()
    assert await studio.charges(never_queued.id) == 1


async def test_what_is_running_or_waiting_is_not_queued_a_second_time(
    studio: Vendor, tmp_path: Path, with_tables: str
) -> None:
    async with node(studio, tmp_path, with_tables, concurrency=1) as at:
        running, waiting = await at.start(order("tiny", seconds=50)), await at.start(order("tiny"))
        await until(at, running, TaskStatus.RUNNING)
        for task in (running, waiting):
            await change(at, task, created_at=now() - LONG_AGO / 4)
        before = (await row(at, running)).run
        await at._upkeep._repair.stale()
        await at.cancel(running.id)
        assert isinstance((await ended(at, waiting))[-1].change, Succeeded)
        assert (await row(at, running)).run == before
        assert (await row(at, waiting)).run == 1


async def test_only_old_files_that_nobody_needs_are_swept(studio: Vendor, tmp_path: Path, with_tables: str) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        task = await at.start(order("tiny"))
        await ended(at, task)
        await idle(at)
        referred = {key for key in files(tmp_path) if not key.startswith("owner/")}
        gone, young, noted = [await at.images.put(picture(colour)) for colour in ("blue", "green", "yellow")]
        going = await at.start(order("tiny", seconds=50))
        await until(at, going, TaskStatus.RUNNING)
        arrivals = Arrivals(at.images)
        await arrivals.note(going.id, Arrival(ImageKind.FINAL, 0, noted, None, None, Effective()))
        await arrivals.note(task.id, Arrival(ImageKind.FINAL, 0, gone, None, None, Effective()))
        await at.images.keep("unrecognised/anything", b"somebody may have paid for it")
        fresh = {key for key in files(tmp_path) if young.sha256 in key}
        age(tmp_path, *(files(tmp_path) - fresh))
        await at._upkeep._repair.sweep()
        left = files(tmp_path)

    assert referred <= left
    assert fresh <= left
    assert any(noted.sha256 in key for key in left), "its task may still adopt it"
    assert f"arrivals/{going.id}.final-0" in left
    assert "unrecognised/anything" in left
    assert not any(gone.sha256 in key for key in left)
    assert f"arrivals/{task.id}.final-0" not in left


async def test_an_orphan_that_comes_again_while_it_is_being_swept_is_kept(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        await at._upkeep._repair.sweep()
        again = await at.images.put(picture("blue"))
        age(tmp_path, *(key for key in files(tmp_path) if again.sha256 in key))
        forget = at.images.forget

        async def late(keys: Sequence[str], **options: Any) -> int:
            if keys:
                await at.images.put(picture("blue"))
            return await forget(keys, **options)

        monkeypatch.setattr(at.images, "forget", late)
        await at._upkeep._repair.sweep()

        assert [key for key in files(tmp_path) if again.sha256 in key]


async def test_two_databases_with_one_store_delete_nothing(studio: Vendor, tmp_path: Path) -> None:
    databases = [f"sqlite:///{tmp_path / name}.db" for name in ("first", "second")]
    for database in databases:
        async with node(studio, tmp_path, database) as at:
            await ended(at, await at.start(order("openai_images", database)))
            await idle(at)
    before = {key for key in files(tmp_path) if not key.startswith("owner/")}
    age(tmp_path, *before)
    for database in reversed(databases):
        async with node(studio, tmp_path, database, works=False) as at:
            await at._upkeep._repair.sweep()

            assert before <= files(tmp_path)


async def test_an_empty_database_does_not_sweep_a_store_with_pictures(studio: Vendor, tmp_path: Path) -> None:
    async with node(studio, tmp_path, f"sqlite:///{tmp_path / 'empty'}.db", works=False) as at:
        await at.images.put(picture("red"))
        age(tmp_path, *files(tmp_path))
        before = files(tmp_path)
        await at._upkeep._repair.sweep()

        assert files(tmp_path) == before


async def test_a_picture_that_was_stored_before_a_crash_is_adopted_after_it(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise ConnectionError("the server has just died")

    task = await shelf.claimed()
    first = Scripted([Accepted(Submission()), FinalImage(0, picture())])
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "_show", die)
        with pytest.raises(ConnectionError):
            await run(shelf, first, task)
    (note,) = [key for key in files(tmp_path) if key.startswith("arrivals/")]
    again = await shelf.journal.claim(task.id)
    assert again is not None
    second = Scripted([])
    changes = await run(shelf, second, again)
    images = (await shelf.history.images_of([task.id]))[task.id]

    assert [type(change) for change in changes[-2:]] == [ImageReady, Succeeded]
    assert [(image.index, image.late) for image in images] == [(0, False)]
    assert (first.posts, second.posts) == (1, 0)
    assert note not in files(tmp_path), "it has served"


async def test_a_store_that_is_away_when_a_picture_could_be_adopted_is_waited_for(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await shelf.claimed()
    arrivals = Arrivals(shelf.images)
    stored = await shelf.images.put(picture())
    await arrivals.note(task.id, Arrival(ImageKind.FINAL, 0, stored, None, None, Effective()))
    await shelf.journal.append(task, StatusChanged(TaskStatus.RUNNING), status=TaskStatus.RUNNING, submitted_at=now())
    again = await shelf.journal.claim(task.id)
    assert again is not None
    keys, tries = shelf.images.keys, iter([1, 2])

    async def away(prefix: str, **options: Any) -> list[str]:
        for _ in tries:
            raise StorageError("the store is away")
        return await keys(prefix, **options)

    monkeypatch.setattr(shelf.images, "keys", away)
    changes = await run(shelf, Scripted([]), again, at=workplace(shelf, storage_patience=60))

    assert [type(change) for change in changes[-2:]] == [ImageReady, Succeeded]


async def test_runs_that_record_nothing_are_counted(shelf: Shelf) -> None:
    task = await shelf.claimed()
    idle_runs = [claimed.idle_runs for _ in range(3) if (claimed := await shelf.journal.claim(task.id)) is not None]
    current = await shelf.journal.claim(task.id, again=True)
    assert current is not None
    await shelf.journal.append(current, NoticeGiven("something has happened", None))
    after = await shelf.journal.claim(task.id)

    assert idle_runs == [2, 3, 4]
    assert current.idle_runs == 4, "a run that failed in a server that lives is no crash"
    assert after is not None
    assert after.idle_runs == 1


async def test_a_task_at_which_the_server_dies_again_and_again_is_given_up(
    studio: Vendor, tmp_path: Path, with_tables: str
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        patient, doomed = [await at.start(order("all_images", "[[sandbox: pause=60]]")) for _ in range(2)]
        for task in (patient, doomed):
            await until(at, task, TaskStatus.RUNNING)
    async with node(studio, tmp_path, with_tables, works=False) as at:
        await change(at, patient, idle_runs=MOST_IDLE_RUNS - 1)
        await change(at, doomed, idle_runs=MOST_IDLE_RUNS)
    async with node(studio, tmp_path, with_tables) as at:
        last = (await ended(at, doomed))[-1].change
        still = await row(at, patient)

    assert isinstance(last, Failed)
    assert (last.failure.code, last.failure.billed) == (FailureCode.CRASHED_REPEATEDLY, True)
    assert still.status is TaskStatus.RUNNING, "that many are allowed"
    assert [await studio.charges(task.id) for task in (patient, doomed)] == [1, 1]


async def test_a_paid_job_beside_what_the_server_died_of_still_brings_its_pictures(
    studio: Vendor, tmp_path: Path, with_tables: str
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        job = await at.start(order("all_images", "[[sandbox: pause=0.2]]"))
        await until(at, job, TaskStatus.RUNNING)
    async with node(studio, tmp_path, with_tables, works=False) as at:
        await change(at, job, idle_runs=MOST_IDLE_RUNS, created_at=now() - LONG_AGO)
    async with node(studio, tmp_path, with_tables, total_seconds=1e6) as at:
        last = (await ended(at, job))[-1].change

        async def here() -> bool:
            await at._upkeep._repair.stale()
            kept = (await at.history.images_of([job.id]))[job.id]
            return len(kept) == 4 and all(image.late for image in kept)

        await eventually(here)

    assert isinstance(last, Failed)
    assert last.failure.code is FailureCode.CRASHED_REPEATEDLY
    assert await studio.charges(job.id) == 1


async def test_stopping_in_good_order_is_no_crash(studio: Vendor, tmp_path: Path, with_tables: str) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        job = await at.start(order("all_images", "[[sandbox: pause=60]]"))
        await until(at, job, TaskStatus.RUNNING)
    for _ in range(2):
        async with node(studio, tmp_path, with_tables) as at:

            async def claimed() -> bool:
                return (await row(at, job)).idle_runs == 1

            await eventually(claimed)
    async with node(studio, tmp_path, with_tables, works=False) as at:
        assert (await row(at, job)).idle_runs == 0
