"""Callbacks: a delivery is kept before it is acknowledged, and found again by whoever waits for it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from providers.contract import Delivery
from tasks.callbacks import Callbacks
from tests.tasks.conftest import Shelf

pytestmark = pytest.mark.anyio
HERE = "http://127.0.0.1:8000"


async def read(callbacks: Callbacks, token: str, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with aclosing(callbacks.deliveries(token)) as deliveries:
        async for delivery in deliveries:
            found.append(delivery)
            if len(found) == count:
                break
    return found


async def test_a_delivery_reaches_whoever_waits_for_it(shelf: Shelf) -> None:
    callbacks = Callbacks(shelf.database, shelf.images, shelf.signals)
    callback = await callbacks.open(await shelf.claimed(), HERE)
    token = callback.url.removeprefix(f"{HERE}/callbacks/")
    waiting = asyncio.create_task(read(callbacks, token, 2))
    for number in range(2):
        assert await callbacks.deliver(token, "application/json", f"{number}".encode())

    assert await waiting == [Delivery("application/json", b"0"), Delivery("application/json", b"1")]


async def test_what_arrived_while_nobody_listened_is_there_after_a_restart(shelf: Shelf) -> None:
    task = await shelf.claimed()
    before = Callbacks(shelf.database, shelf.images, shelf.signals)
    url = (await before.open(task, HERE)).url
    token = url.rpartition("/")[2]
    await before.deliver(token, "image/png", b"picture")
    after = Callbacks(shelf.database, shelf.images, shelf.signals)

    assert (await after.open(task, HERE)).url == url
    assert await read(after, token, 1) == [Delivery("image/png", b"picture")]


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
