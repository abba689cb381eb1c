"""Buying a picture of which only a preview has arrived. That pays, at most once per picture."""

from __future__ import annotations

import asyncio
from functools import partial
from weakref import WeakValueDictionary

from pydantic import BaseModel

from providers.contract import Provider, Purchasing
from tasks.database import Database
from tasks.errors import NotForSaleError
from tasks.history import History
from tasks.images import ImageStore, image_record, keep_once
from tasks.records import ImageKind, ImageRecord, TaskRecord
from tasks.uninterrupted import uninterrupted


class Purchases:
    """Buys pictures, one click at a time: a second click on the same picture waits for the first."""

    def __init__(self, database: Database, history: History, images: ImageStore) -> None:
        self._database = database
        self._history = history
        self._images = images
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def purchase(self, image: ImageRecord, task: TaskRecord, provider: Provider[BaseModel]) -> ImageRecord:
        """The full picture behind a preview; the one that is here already, if it has been bought before.

        Raises `NotForSaleError`, `providers.errors.ProviderError`, or `StorageError`.
        """
        # Weakly kept: a lock is there as long as somebody holds it or waits for it.
        lock = self._locks.setdefault(image.task_id, asyncio.Lock())
        async with lock:
            if bought := await self._bought(image):
                return bought
            return await uninterrupted(self._buy(image, task, provider))

    async def _bought(self, image: ImageRecord) -> ImageRecord | None:
        images = (await self._history.images_of([image.task_id]))[image.task_id]
        return next((one for one in images if one.kind is ImageKind.FINAL and one.index == image.index), None)

    async def _buy(self, image: ImageRecord, task: TaskRecord, provider: Provider[BaseModel]) -> ImageRecord:
        if image.kind is not ImageKind.PREVIEW or image.provider_image_id is None:
            raise NotForSaleError(image.kind.description)
        if not isinstance(provider, Purchasing):
            raise NotForSaleError("Its provider sells no pictures.")
        data = await provider.purchase(image.provider_image_id)
        stored = await self._images.put(data)
        bought = image_record(
            task,
            stored,
            ImageKind.FINAL,
            image.index,
            placeholder=await self._images.placeholder(data, stored.measured.format),
            provider_image_id=image.provider_image_id,
        )
        # Another node may have bought it at the same moment, which is the same purchase.
        return await self._database.write(partial(keep_once, image=bought))
