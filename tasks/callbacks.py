"""Callbacks: places where a provider can report on a task, also while nobody is listening.

What arrives is stored before the provider is answered, so a delivery is not lost when this server stops between the
two. It is a hint or a result, never an order: the adapter decides what it is worth. What arrives after its task has
ended without success is heard too: the task is queued again (`tasks.repair`), and a picture is kept as late.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from secrets import token_urlsafe
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from providers.contract import Delivery
from tasks.database import Database
from tasks.errors import StorageError
from tasks.images import ImageStore
from tasks.patience import patiently
from tasks.records import TaskRecord, now
from tasks.signals import Signals
from tasks.status import TERMINAL, TaskStatus
from tasks.tables import CALLBACKS, DELIVERIES, TASKS

DELIVERY_SIGNAL = "delivery"
"""The hint to other nodes that something was sent to a callback; its text is the callback's token."""
SAFETY_SECONDS = 15.0
"""How long to trust the silence before looking into the table: another process may have received something."""

REPORTED_ON = (
    select(TASKS.c.id)
    .join(CALLBACKS, CALLBACKS.c.task_id == TASKS.c.id)
    .where(CALLBACKS.c.token == bindparam("token"))
    .with_for_update(of=TASKS, key_share=True)
)
"""The task of a callback; locked, so that whoever ends it meanwhile finds the report, or has ended it already."""
LISTEN = (
    TASKS.update()
    .where(
        TASKS.c.id == bindparam("task_id"),
        TASKS.c.status.in_(TERMINAL - {TaskStatus.SUCCEEDED}),
        TASKS.c.listening.is_(False),
    )
    .values(listening=True)
)
"""Have a task that has ended without success listened to again. A run of it ends that, so one report makes one run."""


class Callbacks:
    """All callbacks of this server. `results` are the providers whose reports are the result itself: only those are
    heard after the end. A hint would bring a look that asks for hints, and so on."""

    def __init__(
        self,
        database: Database,
        images: ImageStore,
        signals: Signals,
        *,
        storage_patience: float = 60.0,
        results: Collection[str] = (),
    ) -> None:
        self._database = database
        self._images = images
        self._signals = signals
        self._storage_patience = storage_patience
        self._listen = LISTEN.where(TASKS.c.provider.in_(results))
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

        return TaskCallback(self, task, await self._database.write(find_or_make), base_url)

    async def deliver(self, token: str, media_type: str, body: bytes) -> bool:
        """Keep what was sent, and wake whoever waits for it. False when there is no such callback."""
        if not await self.known(token):
            return False
        key = f"deliveries/{hashlib.sha256(body).hexdigest()}"
        await self._images.keep(key, body)
        delivery = {"token": token, "media_type": media_type[:200], "body": key, "at": now()}

        def add(connection: Connection) -> None:
            task_id = connection.execute(REPORTED_ON, {"token": token}).scalar_one()
            connection.execute(DELIVERIES.insert(), delivery)
            # It is news: how often runs have begun in vain says nothing about it.
            connection.execute(self._listen.values(idle_runs=0), {"task_id": task_id})
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

    async def body(self, record: Row[Any]) -> bytes:
        """What was sent; a store that fails is given time to recover, because it may be a picture that was paid for."""
        return await patiently(partial(self._images.kept, record.body), StorageError, self._storage_patience)

    async def reports(self, token: str) -> AsyncGenerator[Sequence[Row[Any]], None]:
        """What has been sent to a callback, from its beginning on, in batches, without an end."""
        last = 0
        try:
            while True:
                self._news[token].clear()
                if records := await self._after(token, last):
                    last = records[-1].number
                    yield records
                else:
                    await self._wait(token)
        finally:
            self._news.pop(token, None)

    async def leave(self, task_id: str, token: str, heard: int) -> None:
        """Have a task that has ended without success listened to again, if more was sent than what was `heard`."""
        if await self._after(token, heard):
            listen = partial(Connection.execute, statement=self._listen, parameters={"task_id": task_id})
            await patiently(partial(self._database.write, listen))

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
    """The callback of one task, for one run of it (`providers.contract.Callback`)."""

    def __init__(self, callbacks: Callbacks, task: TaskRecord, token: str, base_url: str) -> None:
        self._callbacks = callbacks
        self._task = task
        self._token = token
        self._base_url = base_url
        self._heard = 0

    @property
    def url(self) -> str:
        """Where the provider sends its reports."""
        return f"{self._base_url}/callbacks/{self._token}"

    async def deliveries(self) -> AsyncGenerator[Delivery, None]:
        """What it has sent; close it with `aclosing`.

        Of a task that has ended the newest comes first: the older ones were heard, and made nothing of it.
        """
        ended = self._task.status.terminal
        async with aclosing(self._callbacks.reports(self._token)) as reports:
            async for records in reports:
                for record in reversed(records) if ended else records:
                    delivery = Delivery(record.media_type, await self._callbacks.body(record))
                    self._heard = max(self._heard, record.number)
                    yield delivery

    async def called(self) -> None:
        """Wait until something has been sent."""
        async with aclosing(self._callbacks.reports(self._token)) as reports:
            await anext(reports)

    async def leave(self) -> None:
        """After the end of the run: what it did not come to hear is left to another one."""
        await self._callbacks.leave(self._task.id, self._token, self._heard)
