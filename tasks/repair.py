"""Putting right what crashes leave behind. Every repair is a line in the log.

Stale rows are tasks that have not ended and that the engine would never run again. Orphans are files that no row refers
to: a picture was stored, and the server died before it could record it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

from sqlalchemy import or_
from sqlmodel import Session, col, select

from tasks.arrivals import FOLDER, Arrivals, task_of
from tasks.callbacks import Callbacks
from tasks.database import Database
from tasks.engine import Engine
from tasks.images import ImageStore
from tasks.records import DeliveryRecord, ImageRecord, StoreRecord, TaskRecord, now
from tasks.status import TERMINAL

log = logging.getLogger(__name__)

SETTLED = timedelta(seconds=60)
"""A younger task may just be on its way into the queue."""
ENDED = timedelta(hours=2)
"""How long the engine remembers what has ended; longer than the minute over which it counts for rate limits."""
ORPHANED = timedelta(days=1)
"""A younger file may belong to a run that is still going to record it."""
REPORTED = timedelta(days=7)
"""How long what a provider reported is kept after its task has ended."""
OWNER = "owner"
"""Where the store says to which database it belongs."""
BATCH = 500


class Repair:
    """The repairs, for all nodes together: doing one twice changes nothing."""

    def __init__(
        self, database: Database, engine: Engine, images: ImageStore, arrivals: Arrivals, callbacks: Callbacks
    ) -> None:
        self._database = database
        self._engine = engine
        self._images = images
        self._arrivals = arrivals
        self._callbacks = callbacks

    async def stale(self) -> None:
        """Queue tasks again that have not ended and that the engine has lost, as after restoring an old back-up."""
        unfinished = (
            select(TaskRecord)
            .where(
                or_(col(TaskRecord.status).not_in(TERMINAL), col(TaskRecord.listening)),
                col(TaskRecord.created_at) < now() - SETTLED,
            )
            .order_by(col(TaskRecord.number))
            .limit(BATCH)
        )
        tasks = await self._database.read(lambda session: session.exec(unfinished).all())
        if not tasks:
            return
        lost = await self._engine.lost(task.id for task in tasks) - self._engine.running
        for task in tasks:
            if task.id in lost:
                log.warning("Task %s was %s, and in no queue; it is queued again", task.id, task.status.value)
                await self._engine.enqueue_again(task.id, task.provider, task.turn)

    async def forget(self) -> None:
        """Let the engine forget what is over, and providers' reports on it."""
        while await self._engine.clean_up(now() - ENDED, BATCH) >= BATCH:
            pass
        await self._callbacks.forget(now() - REPORTED)

    async def sweep(self) -> None:
        """Delete the files that no row refers to. A picture with a note may still be adopted."""
        if not await self._ours():
            log.warning(
                "Files that no task refers to are not swept: the picture store belongs to another database. If that is "
                "what you want, delete the folder `%s` in the store.",
                OWNER,
            )
            return
        swept = (
            await self._sweep(FOLDER, self._notes)
            + await self._sweep("originals", self._pictures)
            + await self._sweep("deliveries", self._deliveries)
        )
        if swept:
            log.warning("Swept %d files that no task refers to", swept)

    async def _ours(self) -> bool:
        """Whether the store belongs to this database: to an empty or another one, all its pictures would be orphans."""
        mine = f"{OWNER}/{await self._database.write(_identity)}"
        if owners := await self._images.keys(OWNER):
            return owners == [mine]
        known = await self._database.read(lambda session: session.exec(select(ImageRecord.id).limit(1)).first())
        if known is None and await self._images.keys("originals"):
            return False
        await self._images.keep(mine, b"")
        return True

    async def _sweep(self, folder: str, referred: Callable[[Collection[str]], Awaitable[set[str]]]) -> int:
        keys = await self._images.keys(folder, before=now() - ORPHANED)
        swept = 0
        for start in range(0, len(keys), BATCH):
            some = keys[start : start + BATCH]
            orphans = sorted(set(some) - await referred(some))
            await self._images.forget(orphans)
            swept += len(orphans)
        return swept

    async def _pictures(self, keys: Collection[str]) -> set[str]:
        hashes = {_hash(key): key for key in keys}
        noted = {arrival.stored.sha256 for arrival in await self._arrivals.noted()}
        known = select(ImageRecord.sha256).where(col(ImageRecord.sha256).in_(hashes))
        found = noted | set(await self._database.read(lambda session: session.exec(known).all()))
        return {key for sha256, key in hashes.items() if sha256 in found}

    async def _notes(self, keys: Collection[str]) -> set[str]:
        wanted = select(TaskRecord.id).where(
            col(TaskRecord.id).in_({task_of(key) for key in keys}),
            or_(col(TaskRecord.status).not_in(TERMINAL), col(TaskRecord.listening)),
        )
        found = set(await self._database.read(lambda session: session.exec(wanted).all()))
        return {key for key in keys if task_of(key) in found}

    async def _deliveries(self, keys: Collection[str]) -> set[str]:
        known = select(DeliveryRecord.body).where(col(DeliveryRecord.body).in_(keys))
        return set(await self._database.read(lambda session: session.exec(known).all()))


def _identity(session: Session) -> str:
    record = session.exec(select(StoreRecord)).first()
    if record is None:
        record = StoreRecord()
        session.add(record)
    return record.id


def _hash(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]
