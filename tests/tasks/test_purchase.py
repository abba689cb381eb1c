"""Buying a picture behind a preview: whoever asks, on whatever node, gets the one that was bought."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tasks.darkroom import Darkroom
from tasks.errors import NotForSaleError
from tasks.images import Stored
from tasks.records import ImageKind
from tests.tasks.node import Vendor, ended, node, order, pictures, vendor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Vendor]:
    """The vendor of this test."""
    async with vendor(tmp_path) as made:
        yield made


def meet(at: Darkroom, barrier: asyncio.Barrier) -> None:
    """Let pictures be stored here only when somebody else stores one as well."""
    put = at.images.put

    async def together(data: bytes) -> Stored:
        stored = await put(data)
        await barrier.wait()
        return stored

    at.images.put = together  # type: ignore[method-assign]


async def test_a_picture_that_two_nodes_buy_at_once_is_one_picture(
    studio: Vendor, tmp_path: Path, postgres_with_tables: str
) -> None:
    async with (
        node(studio, tmp_path, postgres_with_tables) as one,
        node(studio, tmp_path, postgres_with_tables, works=False) as other,
    ):
        task = await one.start(order("all_images", "[[sandbox: pause=0.01]]"))
        await ended(one, task)
        preview = (await pictures(one, task))[0]
        barrier = asyncio.Barrier(2)
        for at in (one, other):
            meet(at, barrier)
        async with asyncio.timeout(10):
            bought = await asyncio.gather(one.purchase(preview), other.purchase(preview))
        (kept,) = [image for image in await pictures(one, task) if image.kind is ImageKind.FINAL]

    assert [image and image.id for image in bought] == [kept.id, kept.id]
    assert (kept.index, kept.late) == (preview.index, False)


async def test_a_picture_of_the_sandbox_is_not_bought_from_an_account(
    studio: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{tmp_path / 'darkroom.db'}"
    async with node(studio, tmp_path, database) as at:
        task = await at.start(order("all_images", "[[sandbox: pause=0.01]]"))
        await ended(at, task)
        preview = (await pictures(at, task))[0]
    monkeypatch.setenv("DARKROOM_ALL_IMAGES_BASE_URL", f"{studio.url}/all_images")
    monkeypatch.setenv("DARKROOM_ALL_IMAGES_API_KEY", "anything")
    async with node(studio, tmp_path, database) as at:
        with pytest.raises(NotForSaleError, match="does not use now"):
            await at.purchase(preview)
