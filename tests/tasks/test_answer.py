"""A provider's answer that cannot be opened again is read while we are slow, and what was read is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

import pytest

from providers.contract import Accepted, FinalImage, PartialImage, ProviderEvent, Submission
from providers.errors import Transport, TruncatedError
from tasks.answer import Answer
from tasks.arrivals import Arrivals
from tasks.errors import DatabaseUnavailableError
from tasks.events import Failed, ImageReady, PartialImageReady, StatusChanged, Succeeded
from tasks.images import Stored
from tasks.keeper import Keeper
from tests.tasks.conftest import Shelf
from tests.tasks.test_run import Asked, Scripted, picture, run

pytestmark = pytest.mark.anyio

STAGE = PartialImage(0, 0, picture("grey"))
FINALS = [FinalImage(0, picture("red")), FinalImage(1, picture("blue"))]


class Stream(Scripted):
    """Tells when everything it says has been read."""

    def __init__(self, *events: ProviderEvent) -> None:
        super().__init__([Accepted(Submission()), *events])
        self.read = asyncio.Event()

    async def run(self, request: Asked, **more: Any) -> AsyncGenerator[ProviderEvent, None]:
        async with aclosing(super().run(request, **more)) as said:
            async for event in said:
                yield event
        self.read.set()


class SlowStore:
    """Lets a picture store wait with one picture until it is told to go on."""

    def __init__(self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, slow: PartialImage | FinalImage) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self._put, self._slow = shelf.images.put, slow
        monkeypatch.setattr(shelf.images, "put", self._wait)

    async def _wait(self, data: bytes) -> Stored:
        if data == self._slow.data:
            self.asked.set()
            await self.go_on.wait()
        return await self._put(data)


async def test_an_answer_is_read_to_its_end_while_nothing_of_it_can_be_kept(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stream = SlowStore(shelf, monkeypatch, STAGE), Stream(STAGE, *FINALS)
    running = asyncio.create_task(run(shelf, stream, n=2))
    async with asyncio.timeout(20):
        await store.asked.wait()
        await stream.read.wait()
        store.go_on.set()
        changes = await running

    kinds = [type(change) for change in changes]
    assert kinds == [StatusChanged] * 3 + [PartialImageReady, ImageReady, ImageReady, Succeeded]


async def test_what_was_read_before_a_run_is_stopped_is_kept(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    task = await shelf.claimed()
    store, stream = SlowStore(shelf, monkeypatch, STAGE), Stream(STAGE, *FINALS)
    running = asyncio.create_task(run(shelf, stream, task, n=2))
    async with asyncio.timeout(20):
        await store.asked.wait()
        await stream.read.wait()
        running.cancel()
        store.go_on.set()
        with suppress(asyncio.CancelledError):
            await running
    kept = (await shelf.history.images_of([task.id]))[task.id]
    again = await shelf.journal.claim(task.id)
    assert again is not None
    changes = await run(shelf, stream, again, n=2)

    assert [image.index for image in kept if image.partial_image_index < 0] == [0, 1]
    assert isinstance(changes[-1], Succeeded)
    assert stream.posts == 1


async def test_what_was_read_when_the_database_stayed_away_is_adopted_by_the_next_run(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await shelf.claimed()
    store, stream = SlowStore(shelf, monkeypatch, FINALS[0]), Stream(*FINALS)
    running = asyncio.create_task(run(shelf, stream, task, n=2))
    record = Keeper.record

    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailableError("it is away")

    async with asyncio.timeout(20):
        await store.asked.wait()
        await stream.read.wait()
        monkeypatch.setattr(Keeper, "record", away)
        store.go_on.set()
        with pytest.raises(DatabaseUnavailableError):
            await running
    monkeypatch.setattr(Keeper, "record", record)
    noted = await Arrivals(shelf.images).of(task.id)
    again = await shelf.journal.claim(task.id)
    assert again is not None
    changes = await run(shelf, stream, again, n=2)

    assert [arrival.index for arrival in noted] == [0, 1]
    assert [type(change) for change in changes[-3:]] == [ImageReady, ImageReady, Succeeded]
    assert stream.posts == 1


async def test_an_error_at_the_end_of_an_answer_costs_nothing_that_came_before(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Stream):
        async def run(self, request: Asked, **more: Any) -> AsyncGenerator[ProviderEvent, None]:
            async with aclosing(super().run(request, **more)) as said:
                async for event in said:
                    yield event
            raise TruncatedError("The stream ended early.", transport=Transport.ACCEPTED)

    store, stream = SlowStore(shelf, monkeypatch, FINALS[0]), Cut(FINALS[0])
    running = asyncio.create_task(run(shelf, stream, n=2))
    async with asyncio.timeout(20):
        await store.asked.wait()
        await stream.read.wait()
        store.go_on.set()
        changes = await running

    assert [type(change) for change in changes[-2:]] == [ImageReady, Failed]


async def test_a_store_that_stays_away_is_waited_for_once_and_not_for_every_picture(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await shelf.claimed()
    waits: list[float] = []

    async def away(_: object, error: type[Exception], seconds: float, **__: object) -> Stored:
        waits.append(seconds)
        raise error("it is away")

    monkeypatch.setattr("tasks.keeper.patiently", away)
    keeper = Keeper(task, shelf.journal, shelf.images, arrivals=Arrivals(shelf.images), storage_patience=60)
    await keeper.rescue([FinalImage(index, picture()) for index in range(3)], record=True)

    assert waits == [60, 0, 0]
    assert keeper.broken is not None


async def test_a_picture_that_waits_for_room_is_among_what_is_left() -> None:
    async def vendor() -> AsyncGenerator[ProviderEvent, None]:
        for index in range(3):
            if index == 2:
                full.set()
            yield FinalImage(index, b"x" * 60)

    full = asyncio.Event()
    answer = Answer(vendor(), room=120)
    async with asyncio.timeout(20):
        await full.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        left = await answer.stop()

    assert [final.index for final in left] == [0, 1, 2]


async def test_only_so_much_of_an_answer_waits_in_memory() -> None:
    said: list[int] = []
    more = asyncio.Event()

    async def vendor() -> AsyncGenerator[ProviderEvent, None]:
        for index in range(4):
            said.append(index)
            if index:
                more.set()
            yield PartialImage(index, 0, b"x" * 60)
            yield FinalImage(index, b"x" * 60)

    answer = Answer(vendor(), room=150)
    async with asyncio.timeout(20):
        first = await anext(answer)
        await more.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        held = len(said)
        rest = [event async for event in answer]

    assert held < 4, "the vendor has to wait"
    assert [event.index for event in [first, *rest] if isinstance(event, FinalImage)] == [0, 1, 2, 3]
    assert 1 <= len([event for event in [first, *rest] if isinstance(event, PartialImage)]) < 4
