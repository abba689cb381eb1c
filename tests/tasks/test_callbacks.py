"""Callbacks: a delivery is kept before it is acknowledged, and found again by whoever waits for it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from providers.contract import Delivery
from providers.errors import Transport
from tasks.callbacks import Callbacks, TaskCallback
from tasks.errors import StorageError
from tasks.events import Change, Failed, Succeeded
from tasks.failure import failed, unknown_provider
from tasks.images import ImageStore
from tasks.records import TaskRecord, now
from tasks.status import TaskStatus
from tests.tasks.conftest import Shelf

pytestmark = pytest.mark.anyio
HERE = "http://127.0.0.1:8000"


def token_of(callback: TaskCallback) -> str:
    return callback.url.removeprefix(f"{HERE}/callbacks/")


async def read(callback: TaskCallback, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with aclosing(callback.deliveries()) as deliveries:
        async for delivery in deliveries:
            found.append(delivery)
            if len(found) == count:
                break
    return found


async def test_a_delivery_reaches_whoever_waits_for_it(shelf: Shelf) -> None:
    callbacks = Callbacks(shelf.database, shelf.images, shelf.signals)
    callback = await callbacks.open(await shelf.claimed(), HERE)
    waiting = asyncio.create_task(read(callback, 2))
    for number in range(2):
        assert await callbacks.deliver(token_of(callback), "application/json", f"{number}".encode())

    assert await waiting == [Delivery("application/json", b"0"), Delivery("application/json", b"1")]


async def test_what_arrived_while_nobody_listened_is_there_after_a_restart(shelf: Shelf) -> None:
    task = await shelf.claimed()
    before = Callbacks(shelf.database, shelf.images, shelf.signals)
    callback = await before.open(task, HERE)
    await before.deliver(token_of(callback), "image/png", b"picture")
    after = Callbacks(shelf.database, shelf.images, shelf.signals)
    again = await after.open(task, HERE)

    assert again.url == callback.url
    assert await read(again, 1) == [Delivery("image/png", b"picture")]


async def test_a_token_that_nobody_was_told_is_refused(shelf: Shelf) -> None:
    callbacks = Callbacks(shelf.database, shelf.images, shelf.signals)
    token = (await callbacks.open(await shelf.claimed(), HERE)).url.rpartition("/")[2]

    assert len(token) >= 43
    assert not await callbacks.deliver("x" * 43, "", b"x")
    assert not await callbacks.deliver("", "", b"x")


async def test_each_task_has_a_callback_of_its_own(shelf: Shelf) -> None:
    callbacks = Callbacks(shelf.database, shelf.images, shelf.signals)
    urls = {(await callbacks.open(await shelf.claimed(), HERE)).url for _ in range(3)}

    assert len(urls) == 3


class Away(ImageStore):
    """A store that cannot be read so many times."""

    failures = 0

    async def _get(self, key: str) -> bytes:
        if self.failures:
            self.failures -= 1
            raise StorageError(f"{key} cannot be read: 503 SlowDown")
        return await super()._get(key)


async def test_a_report_that_the_store_cannot_give_back_for_a_while_is_heard_when_it_can(
    shelf: Shelf, tmp_path: Path
) -> None:
    store = Away((tmp_path / "images").as_uri(), shelf.database)
    callbacks = Callbacks(shelf.database, store, shelf.signals, storage_patience=60)
    callback = await callbacks.open(await shelf.claimed(), HERE)
    await callbacks.deliver(token_of(callback), "image/png", b"picture")
    store.failures = 2

    assert await read(callback, 1) == [Delivery("image/png", b"picture")]


async def end(shelf: Shelf, task: TaskRecord, change: Change, **values: Any) -> TaskRecord:
    """A task that is over."""
    return await shelf.journal.append(task, change, **values)


async def listening(shelf: Shelf, task: TaskRecord) -> bool:
    found = await shelf.history.task(task.id)
    assert found is not None
    return found.listening


FAILURE = unknown_provider("placewise", Transport.PERHAPS_SENT)


async def test_a_report_on_a_task_that_ended_without_success_has_it_listened_to(shelf: Shelf) -> None:
    callbacks = Callbacks(shelf.database, shelf.images, shelf.signals, results=["openai_images"])
    running, failing, succeeding = [await shelf.claimed() for _ in range(3)]
    await end(shelf, failing, Failed(FAILURE), **failed(FAILURE))
    await end(shelf, succeeding, Succeeded(), status=TaskStatus.SUCCEEDED, finished_at=now())
    for task in (running, failing, succeeding):
        await callbacks.deliver(token_of(await callbacks.open(task, HERE)), "image/png", b"picture")

    assert [await listening(shelf, task) for task in (running, failing, succeeding)] == [False, True, False]


async def test_a_report_that_no_run_came_to_hear_is_left_to_another_one(shelf: Shelf) -> None:
    callbacks = Callbacks(shelf.database, shelf.images, shelf.signals, results=["openai_images"])
    deaf, hearing = [await shelf.claimed() for _ in range(2)]
    opened = [await callbacks.open(task, HERE) for task in (deaf, hearing)]
    for callback in opened:
        await callbacks.deliver(token_of(callback), "image/png", b"picture")
    await read(opened[1], 1)
    for task, callback in zip((deaf, hearing), opened, strict=True):
        await callback.leave()
        assert not await listening(shelf, task), "it has not ended"
        await end(shelf, task, Failed(FAILURE), **failed(FAILURE))
        await callback.leave()

    assert [await listening(shelf, task) for task in (deaf, hearing)] == [True, False]


async def test_a_hint_after_the_end_has_nobody_listen(shelf: Shelf) -> None:
    """The look that it would bring asks for hints again."""
    callbacks = Callbacks(shelf.database, shelf.images, shelf.signals, results=["another"])
    task = await shelf.claimed()
    callback = await callbacks.open(task, HERE)
    await end(shelf, task, Failed(FAILURE), **failed(FAILURE))
    await callbacks.deliver(token_of(callback), "application/json", b"{}")
    await callback.leave()

    assert not await listening(shelf, task)


async def test_what_is_new_is_heard_first_when_the_task_has_ended(shelf: Shelf) -> None:
    """What came before was heard by an earlier run, and may be what it failed at."""
    callbacks = Callbacks(shelf.database, shelf.images, shelf.signals)
    task = await shelf.claimed()
    token = token_of(await callbacks.open(task, HERE))
    await callbacks.deliver(token, "image/png", b"broken off")
    over = await end(shelf, task, Failed(FAILURE), **failed(FAILURE))
    await callbacks.deliver(token, "image/png", b"whole")

    assert [one.body for one in await read(await callbacks.open(over, HERE), 2)] == [b"whole", b"broken off"]
