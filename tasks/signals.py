"""Hints between the nodes of one Darkroom: something in the database has changed, look there.

A hint is sent with the transaction that it is about, and may get lost: the tables are the truth.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from contextlib import aclosing
from uuid import uuid4

import psycopg
from sqlalchemy import Connection
from sqlalchemy import text as sql
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_random_exponential

from tasks.database import Database
from tasks.errors import DatabaseUnavailableError
from tasks.postgresql import conninfo

log = logging.getLogger(__name__)

CHANNEL = "darkroom"
LIMIT = 8000
"""A hint is shorter than that many bytes, says PostgreSQL."""
NOTIFY = sql("select pg_notify(:channel, :payload)")
NOTIFY_ALL = sql("select pg_notify(:channel, payload) from unnest(cast(:payloads as text[])) as payload")
TOGETHER_SECONDS = 0.005
"""How long hints are collected that are told after their commit."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
"""Between two attempts to listen again."""

Listening = psycopg.AsyncConnection[tuple[object, ...]]


class Signals:
    """Hints between the nodes that share a PostgreSQL database. On SQLite there is one node, and nothing to do."""

    def __init__(self, database: Database) -> None:
        self._url = None if database.sqlite else database.url
        self._node = uuid4().hex
        self._handlers: defaultdict[str, list[Callable[[str], None]]] = defaultdict(list)
        self._gap_handlers: list[Callable[[], None]] = []
        self._connection: Listening | None = None
        self._listening: asyncio.Task[None] | None = None
        self._database = database
        self._to_tell: dict[str, None] = {}
        self._telling: asyncio.Task[None] | None = None

    def on(self, kind: str, handler: Callable[[str], None]) -> None:
        """Call `handler`, on the event loop, with the text of every hint of a kind that another node sends."""
        self._handlers[kind].append(handler)

    def on_gap(self, handler: Callable[[], None]) -> None:
        """Call `handler` when hints can be heard again after a while in which any may have been missed."""
        self._gap_handlers.append(handler)

    def send(self, connection: Connection, kind: str, text: str) -> None:
        """Send a hint if and when this transaction is committed. Raises ValueError when it is too long."""
        if self._url is None:
            return
        payload = f"{self._node}:{kind}:{text}"
        if len(payload.encode()) >= LIMIT:
            raise ValueError(f"a hint of {len(payload.encode())} bytes is too long; send an id instead: {text[:80]!r}…")
        connection.execute(NOTIFY, {"channel": CHANNEL, "payload": payload})

    def tell(self, kind: str, text: str) -> None:
        """Send a hint about something that has been committed, soon and together with others. A commit that carries a
        hint of its own waits for all others that do, so what happens often is told like this."""
        if self._url is None:
            return
        self._to_tell[f"{self._node}:{kind}:{text}"] = None
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        while self._to_tell:
            await asyncio.sleep(TOGETHER_SECONDS)
            payloads, self._to_tell = list(self._to_tell), {}
            try:
                await self._database.write(lambda connection: _notify(connection, payloads))  # noqa: B023
            except DatabaseUnavailableError as exc:
                log.warning("The other nodes could not be told about %d changes: %s", len(payloads), exc)

    async def open(self) -> None:
        """Start listening. What other nodes commit after this is heard; if the database is away, after the gap."""
        if self._url is None or self._listening is not None:
            return
        try:
            await self._connect()
        except psycopg.Error as exc:
            log.warning("Other nodes cannot be heard yet: %s", exc)
            await self._disconnect()
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Tell what is left to tell, and stop listening."""
        try:
            if self._telling is not None:
                await self._telling
        finally:
            if self._listening is not None:
                self._listening.cancel()
                await asyncio.gather(self._listening, return_exceptions=True)
                self._listening = None
            await self._disconnect()

    async def _listen(self) -> None:
        while True:
            if self._connection is None:
                await self._connect_again()
            try:
                await self._hear()
            except psycopg.Error as exc:
                log.warning("Other nodes cannot be heard: %s", exc)
            await self._disconnect()
            await asyncio.sleep(FIRST_PAUSE_SECONDS)

    async def _hear(self) -> None:
        assert self._connection is not None
        async with aclosing(self._connection.notifies()) as hints:
            async for hint in hints:
                self._receive(hint.payload)

    async def _connect(self) -> None:
        assert self._url is not None
        self._connection = await psycopg.AsyncConnection.connect(conninfo(self._url), autocommit=True)
        await self._connection.execute(f"listen {CHANNEL}")

    async def _connect_again(self) -> None:
        patiently = AsyncRetrying(
            retry=retry_if_exception_type(psycopg.Error),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
            before_sleep=before_sleep_log(log, logging.INFO),
        )
        async for attempt in patiently:
            with attempt:
                await self._disconnect()
                await self._connect()
        log.info("Other nodes can be heard again")
        for handler in self._gap_handlers:
            _call(handler)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _receive(self, payload: str) -> None:
        node, _, hint = payload.partition(":")
        if node == self._node:
            return
        kind, _, text = hint.partition(":")
        for handler in self._handlers.get(kind, ()):
            _call(handler, text)


def _notify(connection: Connection, payloads: list[str]) -> None:
    connection.execute(NOTIFY_ALL, {"channel": CHANNEL, "payloads": payloads})


def _call(handler: Callable[..., None], *arguments: str) -> None:
    """A handler that fails must not deafen this node."""
    try:
        handler(*arguments)
    except Exception:
        log.exception("A hint of another node could not be followed")
