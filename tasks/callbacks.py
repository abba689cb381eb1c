"""Callbacks: places where a provider can report on a task, also while nobody is listening.

What arrives is stored before the provider is answered, so a delivery is not lost when this server stops between the
two. It is a hint or a result, never an order: the adapter decides what it is worth.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from secrets import token_urlsafe
from typing import Any

from sqlalchemy import Connection, Row, select

from providers.contract import Delivery
from tasks.database import Database
from tasks.images import ImageStore
from tasks.patience import patiently
from tasks.records import TaskRecord, now
from tasks.signals import Signals
from tasks.tables import CALLBACKS, DELIVERIES, TASKS

DELIVERY_SIGNAL = "delivery"
"""The hint to other nodes that something was sent to a callback; its text is the callback's token."""
SAFETY_SECONDS = 15.0
"""How long to trust the silence before looking into the table: another process may have received something."""


class Callbacks:
    """All callbacks of this server."""

    def __init__(self, database: Database, images: ImageStore, signals: Signals) -> None:
        self._database = database
        self._images = images
        self._signals = signals
        signals.on(DELIVERY_SIGNAL, self._tell)
        self._news: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def open(self, task: TaskRecord, base_url: str) -> TaskCallback:
        """The callback of a task; the same one again after a restart."""

        def find_or_make(connection: Connection) -> str:
            earlier = select(CALLBACKS.c.token).where(CALLBACKS.c.task_id == task.id)
            token: str | None = connection.execute(earlier).scalar_one_or_none()
            if token is None:
                token = token_urlsafe(32)
                values = {"token": token, "task_id": task.id, "project": task.project, "created_at": now()}
                connection.execute(CALLBACKS.insert(), values)
            return token

        return TaskCallback(self, await self._database.write(find_or_make), base_url)

    async def deliver(self, token: str, media_type: str, body: bytes) -> bool:
        """Keep what was sent, and wake whoever waits for it. False when there is no such callback."""
        if not await self.known(token):
            return False
        key = f"deliveries/{hashlib.sha256(body).hexdigest()}"
        await self._images.keep(key, body)
        delivery = {"token": token, "media_type": media_type[:200], "body": key, "at": now()}

        def add(connection: Connection) -> None:
            connection.execute(DELIVERIES.insert(), delivery)
            self._signals.send(connection, DELIVERY_SIGNAL, token)

        await self._database.write(add)
        self._tell(token)
        return True

    def _tell(self, token: str) -> None:
        if token in self._news:
            self._news[token].set()

    async def forget(self, ended_before: datetime) -> None:
        """Delete what was reported on tasks that ended before a time. The sweep deletes the bodies."""
        ended = (
            select(CALLBACKS.c.token)
            .join(TASKS, TASKS.c.id == CALLBACKS.c.task_id)
            .where(TASKS.c.finished_at < ended_before)
        )
        statement = DELIVERIES.delete().where(DELIVERIES.c.token.in_(ended))
        await self._database.write(lambda connection: connection.execute(statement))

    async def known(self, token: str) -> bool:
        """Whether there is such a callback."""
        wanted = select(CALLBACKS.c.token).where(CALLBACKS.c.token == token)
        return await self._database.read(lambda connection: connection.execute(wanted).first()) is not None

    async def deliveries(self, token: str) -> AsyncGenerator[Delivery, None]:
        """What has been sent to a callback, from its beginning on, without an end."""
        last = 0
        try:
            while True:
                self._news[token].clear()
                records = await self._after(token, last)
                for record in records:
                    last = record.number
                    yield Delivery(record.media_type, await self._images.kept(record.body))
                if not records:
                    await self._wait(token)
        finally:
            self._news.pop(token, None)

    async def _after(self, token: str, last: int) -> Sequence[Row[Any]]:
        statement = (
            select(DELIVERIES)
            .where(DELIVERIES.c.token == token, DELIVERIES.c.number > last)
            .order_by(DELIVERIES.c.number)
        )
        return await patiently(lambda: self._database.read(lambda connection: connection.execute(statement).all()))

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
