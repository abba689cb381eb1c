"""Callbacks: places where a provider can report on a task, also while nobody is listening.

What arrives is stored before the provider is answered, so a delivery is not lost when this server stops between the
two. It is a hint or a result, never an order: the adapter decides what it is worth.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence

from sqlmodel import Session, col, select

from providers.contract import Delivery
from tasks.database import Database
from tasks.images import ImageStore
from tasks.records import CallbackRecord, DeliveryRecord, TaskRecord

SAFETY_SECONDS = 15.0
"""How long to trust the silence before looking into the table: another process may have received something."""


class Callbacks:
    """All callbacks of this server."""

    def __init__(self, database: Database, images: ImageStore) -> None:
        self._database = database
        self._images = images
        self._news: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def open(self, task: TaskRecord, base_url: str) -> TaskCallback:
        """The callback of a task; the same one again after a restart."""

        def find_or_make(session: Session) -> CallbackRecord:
            statement = select(CallbackRecord).where(col(CallbackRecord.task_id) == task.id)
            record = session.exec(statement).one_or_none()
            if record is None:
                record = CallbackRecord(task_id=task.id, project=task.project)
                session.add(record)
            return record

        record = await self._database.write(find_or_make)
        return TaskCallback(self, record.token, base_url)

    async def deliver(self, token: str, media_type: str, body: bytes) -> bool:
        """Keep what was sent, and wake whoever waits for it. False when there is no such callback."""
        if not await self.known(token):
            return False
        key = f"deliveries/{hashlib.sha256(body).hexdigest()}"
        await self._images.keep(key, body)
        delivery = DeliveryRecord(token=token, media_type=media_type[:200], body=key)
        await self._database.write(lambda session: session.add(delivery))
        if token in self._news:
            self._news[token].set()
        return True

    async def known(self, token: str) -> bool:
        """Whether there is such a callback."""
        return await self._database.read(lambda session: session.get(CallbackRecord, token)) is not None

    async def deliveries(self, token: str) -> AsyncGenerator[Delivery, None]:
        """What has been sent to a callback, from its beginning on, without an end."""
        last = 0
        try:
            while True:
                self._news[token].clear()
                records = await self._after(token, last)
                for record in records:
                    last = record.number or last
                    yield Delivery(record.media_type, await self._images.kept(record.body))
                if not records:
                    await self._wait(token)
        finally:
            self._news.pop(token, None)

    async def _after(self, token: str, last: int) -> Sequence[DeliveryRecord]:
        statement = (
            select(DeliveryRecord)
            .where(col(DeliveryRecord.token) == token, col(DeliveryRecord.number) > last)
            .order_by(col(DeliveryRecord.number))
        )
        return await self._database.read(lambda session: session.exec(statement).all())

    async def _wait(self, token: str) -> None:
        try:
            async with asyncio.timeout(SAFETY_SECONDS):
                await self._news[token].wait()
        except TimeoutError:
            return


class TaskCallback:
    """The callback of one task (`providers.contract.Callback`)."""

    def __init__(self, callbacks: Callbacks, token: str, base_url: str) -> None:
        self._callbacks = callbacks
        self._token = token
        self._base_url = base_url

    @property
    def url(self) -> str:
        """Where the provider sends its reports."""
        return f"{self._base_url}/callbacks/{self._token}"

    def deliveries(self) -> AsyncGenerator[Delivery, None]:
        """What it has sent; close it with `aclosing`."""
        return self._callbacks.deliveries(self._token)
