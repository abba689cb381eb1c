"""Buying a picture of which only a preview has arrived. That pays, at most once per picture."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from pydantic import BaseModel

from providers.contract import Provider, Purchasing
from tasks.database import Database
from tasks.errors import NotForSaleError
from tasks.history import History
from tasks.images import ImageStore
from tasks.imaging import ImageFormat
from tasks.records import ImageKind, ImageRecord


class Purchases:
    """Buys pictures, one click at a time: a second click on the same picture waits for the first."""

    def __init__(self, database: Database, history: History, images: ImageStore) -> None:
        self._database = database
        self._history = history
        self._images = images
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def purchase(self, image: ImageRecord, provider: Provider[BaseModel]) -> ImageRecord:
        """The full picture behind a preview; the one that is here already, if it has been bought before.

        Raises `NotForSaleError`, `providers.errors.ProviderError`, or `StorageError`.
        """
        lock = self._locks[image.task_id]
        try:
            async with lock:
                return await self._bought(image) or await self._buy(image, provider)
        finally:
            if not lock.locked():
                self._locks.pop(image.task_id, None)

    async def _bought(self, image: ImageRecord) -> ImageRecord | None:
        images = (await self._history.images_of([image.task_id]))[image.task_id]
        return next((one for one in images if one.kind is ImageKind.FINAL and one.index == image.index), None)

    async def _buy(self, image: ImageRecord, provider: Provider[BaseModel]) -> ImageRecord:
        if image.kind is not ImageKind.PREVIEW or image.provider_image_id is None:
            raise NotForSaleError(image.kind.description)
        if not isinstance(provider, Purchasing):
            raise NotForSaleError("Its provider sells no pictures.")
        data = await provider.purchase(image.provider_image_id)
        stored = await self._images.put(data)
        bought = ImageRecord(
            project=image.project,
            task_id=image.task_id,
            kind=ImageKind.FINAL,
            index=image.index,
            sha256=stored.sha256,
            byte_size=stored.byte_size,
            media_type=stored.measured.format.value,
            width=stored.measured.width,
            height=stored.measured.height,
            placeholder=await self._images.placeholder(data, ImageFormat(stored.measured.format)),
            provider_image_id=image.provider_image_id,
        )
        await self._database.write(lambda session: session.add(bought))
        return bought
