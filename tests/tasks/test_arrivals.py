"""A picture that was paid for and stored is shown, whatever kept it from being recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from providers.contract import Accepted, Effective, FinalImage, ProviderEvent, Submission
from providers.errors import FailureCode
from tasks import engine, journal
from tasks.arrivals import Arrival, Arrivals
from tasks.errors import DatabaseUnavailableError, StorageError
from tasks.events import Failed, ImageReady, StatusChanged, Succeeded
from tasks.images import ImageStore
from tasks.journal import Journal
from tasks.keeper import Keeper
from tasks.patience import patiently
from tasks.records import ImageKind, TaskRecord, now
from tasks.status import TaskStatus
from tests.clients import eventually
from tests.tasks.conftest import Shelf
from tests.tasks.node import Vendor, ended, node, order, pictures, until, vendor
from tests.tasks.test_repair import age, files
from tests.tasks.test_run import Scripted, picture, run

pytestmark = pytest.mark.anyio

DELIVERED: list[ProviderEvent] = [Accepted(Submission()), FinalImage(0, picture())]


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Vendor]:
    """The vendor of this test."""
    async with vendor(tmp_path) as made:
        yield made


def notes(home: Path) -> list[str]:
    """What is stored, but perhaps not recorded."""
    return [key for key in files(home) if key.startswith("arrivals/")]


def no_picture_recorded(patch: pytest.MonkeyPatch) -> None:
    """Let the database be away whenever a finished picture is to be recorded."""
    append = Journal._append

    def away(self: Journal, connection: Any, task: Any, change: Any, *rest: Any) -> Any:
        if isinstance(change, ImageReady):
            raise DatabaseUnavailableError("the connection was lost")
        return append(self, connection, task, change, *rest)

    patch.setattr(Journal, "_append", away)


async def test_a_picture_is_adopted_when_the_database_was_away_for_too_long_to_record_it(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await shelf.claimed()
    first, second = Scripted(DELIVERED), Scripted([])
    with monkeypatch.context() as patch:
        no_picture_recorded(patch)
        patch.setattr(journal, "patiently", partial(patiently, seconds=0.1))
        with pytest.raises(DatabaseUnavailableError):
            await run(shelf, first, task)
    assert notes(tmp_path)
    again = await shelf.journal.claim(task.id)
    assert again is not None
    changes = await run(shelf, second, again)

    assert [type(change) for change in changes[-2:]] == [ImageReady, Succeeded]
    assert (first.posts, second.posts) == (1, 0)
    assert not notes(tmp_path), "it has served"
    assert not list((tmp_path / "images" / "arrivals").iterdir()), "nor is a folder left of each task"


async def test_a_picture_is_adopted_when_the_server_was_stopped_before_it_could_record_it(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LEAVING_SECONDS", 0.2)
    noted, note = asyncio.Event(), Arrivals.note

    async def tell(self: Arrivals, *args: Any) -> None:
        await note(self, *args)
        noted.set()

    with monkeypatch.context() as patch:
        no_picture_recorded(patch)
        patch.setattr(Arrivals, "note", tell)
        async with node(studio, tmp_path, with_tables) as at:
            task = await at.start(order("openai_images"))
            await noted.wait()
    async with node(studio, tmp_path, with_tables) as at:
        assert isinstance((await ended(at, task))[-1].change, Succeeded)
        assert [image.late for image in await pictures(at, task)] == [False]
    assert await studio.charges(task.id) == 1


async def streaming(shelf: Shelf) -> TaskRecord:
    """A task whose stream is being read."""
    task = await shelf.claimed()
    values: dict[str, Any] = {"submitted_at": now(), "transport": "accepted", "submission": {"id": "1"}}
    return await shelf.journal.append(task, StatusChanged(TaskStatus.RUNNING), status=TaskStatus.RUNNING, **values)


def keeper(shelf: Shelf, task: TaskRecord) -> Keeper:
    """One that keeps what a stream says."""
    return Keeper(task, shelf.journal, shelf.images, arrivals=Arrivals(shelf.images), storage_patience=0)


async def kept(shelf: Shelf, task: TaskRecord) -> list[tuple[str, bool]]:
    """The pictures of a task, and whether they are late."""
    return [(image.id, image.late) for image in (await shelf.history.images_of([task.id]))[task.id]]


async def shown(shelf: Shelf, task: TaskRecord) -> list[str]:
    """The pictures that readers have been told about."""
    _, events = await shelf.history.events(task.id, 0)
    return [event.change.image_id for event in events if isinstance(event.change, ImageReady)]


async def test_a_picture_that_the_old_run_keeps_while_the_new_one_begins_is_announced_once(shelf: Shelf) -> None:
    task = await streaming(shelf)
    old, again = keeper(shelf, task), await shelf.journal.claim(task.id)
    assert again is not None
    new, looked = keeper(shelf, again), (await shelf.history.images_of([task.id]))[task.id]
    await old.take(FinalImage(0, picture()))
    await new.begin(looked)

    assert await kept(shelf, task) == [(image_id, False) for image_id in await shown(shelf, task)]
    assert new.finished == {0}


async def test_a_picture_that_the_old_run_kept_before_the_new_one_began_is_announced(shelf: Shelf) -> None:
    task = await streaming(shelf)
    old, again = keeper(shelf, task), await shelf.journal.claim(task.id)
    assert again is not None
    await old.take(FinalImage(0, picture()))
    await old.end()
    changes = await run(shelf, Scripted([]), again)

    assert [type(change) for change in changes[-2:]] == [ImageReady, Succeeded]
    assert await kept(shelf, task) == [(image_id, False) for image_id in await shown(shelf, task)]


async def test_a_picture_that_the_new_run_has_announced_is_not_kept_again_by_the_old_one(shelf: Shelf) -> None:
    task = await streaming(shelf)
    old, again = keeper(shelf, task), await shelf.journal.claim(task.id)
    assert again is not None
    stored = await shelf.images.put(picture())
    await Arrivals(shelf.images).note(task.id, Arrival(ImageKind.FINAL, 0, stored, None, None, Effective()))
    new = keeper(shelf, again)
    await new.begin([])
    await old.take(FinalImage(0, picture()))

    assert await kept(shelf, task) == [(image_id, False) for image_id in await shown(shelf, task)]


async def test_when_the_notes_cannot_be_read_after_a_crash_nobody_knows_what_came_and_the_picture_is_added_later(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        task = await at.start(order("openai_images", "[[sandbox: pause=60]]", partial_images=1))
        await until(at, task, TaskStatus.RUNNING)
    async with node(studio, tmp_path, with_tables, works=False) as at:
        stored = await at.images.put(picture("yellow"))
        await Arrivals(at.images).note(task.id, Arrival(ImageKind.FINAL, 0, stored, None, None, Effective()))

    async def away(*_: object, **__: object) -> list[str]:
        raise StorageError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(ImageStore, "keys", away)
        async with node(studio, tmp_path, with_tables, storage_patience_seconds=0.1) as at:
            last = (await ended(at, task))[-1].change
    async with node(studio, tmp_path, with_tables, works=False) as at:
        age(tmp_path, *files(tmp_path))
        await at._upkeep._repair.sweep()
        finals = [image for image in await pictures(at, task) if image.kind is ImageKind.FINAL]
        data = await at.images.read(finals[0])

    assert isinstance(last, Failed)
    assert (last.failure.code, last.failure.billed) == (FailureCode.OUTCOME_UNKNOWN, None)
    assert "the store is away" in last.failure.message
    assert [image.late for image in finals] == [True]
    assert data == picture("yellow")
    assert not notes(tmp_path)


async def test_the_notes_of_what_is_still_running_are_left_to_its_run(
    studio: Vendor, tmp_path: Path, with_tables: str
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        task = await at.start(order("openai_images", "[[sandbox: pause=60]]", partial_images=1))
        await until(at, task, TaskStatus.RUNNING)
        stored = await at.images.put(picture("yellow"))
        await Arrivals(at.images).note(task.id, Arrival(ImageKind.FINAL, 0, stored, None, None, Effective()))
        await at._upkeep._repair.adopt()

        assert [image.kind for image in await pictures(at, task) if image.kind is ImageKind.FINAL] == []
        assert notes(tmp_path)


async def test_a_server_that_starts_adds_what_ended_tasks_lack(
    studio: Vendor, tmp_path: Path, with_tables: str
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        task = await at.start(order("openai_images", n=1))
        await ended(at, task)
        stored = await at.images.put(picture("yellow"))
        await Arrivals(at.images).note(task.id, Arrival(ImageKind.FINAL, 1, stored, None, None, Effective()))
    async with node(studio, tmp_path, with_tables) as at:

        async def added() -> bool:
            return [image.late for image in await pictures(at, task)] == [False, True]

        await eventually(added)
