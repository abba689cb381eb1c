"""The event log: one writer, no gaps, and nothing after the end."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import IntegrityError

from providers.contract import ProgressOrigin
from tasks.errors import DatabaseUnavailableError, LostTaskError
from tasks.events import ImageReady, NoticeGiven, Progressed, Succeeded
from tasks.records import ImageKind, ImageRecord
from tasks.status import TaskStatus
from tasks.uninterrupted import uninterrupted
from tests.tasks.conftest import Shelf

pytestmark = pytest.mark.anyio


async def sequences(shelf: Shelf, task_id: str) -> list[int]:
    _, events = await shelf.history.events(task_id, 0)
    return [event.sequence for event in events]


async def test_sequences_have_no_gap_however_many_write_at_once(shelf: Shelf) -> None:
    task = await shelf.claimed()
    await asyncio.gather(*(shelf.journal.append(task, NoticeGiven(f"{n}", None)) for n in range(50)))

    assert await sequences(shelf, task.id) == list(range(1, 52))


async def test_a_worker_that_lost_its_task_cannot_write(shelf: Shelf) -> None:
    stale = await shelf.claimed()
    current = await shelf.journal.claim(stale.id)
    assert current is not None
    with pytest.raises(LostTaskError):
        await shelf.journal.append(stale, Succeeded(), status=TaskStatus.SUCCEEDED)
    await shelf.journal.append(current, NoticeGiven("still mine", None))

    assert await sequences(shelf, stale.id) == [1, 2]
    row = await shelf.history.task(stale.id)
    assert row is not None
    assert row.status is TaskStatus.QUEUED


async def test_what_another_run_wrote_is_not_taken_for_a_commit_whose_answer_was_lost(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale, same = await shelf.claimed(), NoticeGiven("both say this", None)
    write = shelf.database.write

    async def lose(_: object) -> None:
        monkeypatch.setattr(shelf.database, "write", write)
        current = await shelf.journal.claim(stale.id)
        assert current is not None
        await shelf.journal.append(current, same)
        raise DatabaseUnavailableError("the connection was lost")

    monkeypatch.setattr(shelf.database, "write", lose)
    with pytest.raises(LostTaskError):
        await shelf.journal.append(stale, same)

    assert await sequences(shelf, stale.id) == [1, 2]


async def test_nothing_happens_after_the_end(shelf: Shelf) -> None:
    task = await shelf.claimed()
    await shelf.journal.append(task, Succeeded(), status=TaskStatus.SUCCEEDED)

    with pytest.raises(LostTaskError):
        await shelf.journal.append(task, Progressed(0.5, ProgressOrigin.ESTIMATED, None))
    assert await shelf.journal.claim(task.id) is None


async def test_a_change_that_cannot_be_logged_does_not_change_the_row(shelf: Shelf) -> None:
    task = await shelf.claimed()
    stranger = ImageRecord(
        project="default",
        task_id="nobody",
        kind=ImageKind.FINAL,
        index=0,
        sha256="x",
        media_type="x",
        width=1,
        height=1,
        byte_size=1,
    )
    with pytest.raises(IntegrityError):
        await shelf.journal.append(task, ImageReady(0, "x"), image=stranger, effective={"size": "1x1"})

    row = await shelf.history.task(task.id)
    assert row is not None
    assert (row.last_sequence, row.effective) == (1, None)
    assert await sequences(shelf, task.id) == [1]


async def test_being_cancelled_does_not_lose_what_has_happened(shelf: Shelf) -> None:
    task = await shelf.claimed()
    writing = asyncio.create_task(shelf.journal.append(task, NoticeGiven("it happened", None)))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    assert await sequences(shelf, task.id) == [1, 2]


async def test_being_cancelled_twice_ends_what_would_never_end() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def for_ever() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    doing = asyncio.create_task(uninterrupted(for_ever()))
    await begun.wait()
    doing.cancel()
    await asyncio.wait([doing], timeout=0.05)
    assert not doing.done(), "told once, it goes on"
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    await asyncio.wait_for(ended.wait(), 5)
