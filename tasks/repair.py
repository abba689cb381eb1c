"""Putting right what crashes leave behind. Every repair is a line in the log.

Stale rows are tasks that have not ended and that the engine would never run again. Orphans are files that no row refers
to: a picture was stored, and the server died before it could record it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Select, or_, select

from tasks.arrivals import FOLDER, Arrivals, task_id_in
from tasks.callbacks import Callbacks
from tasks.database import Database
from tasks.engine import Engine
from tasks.images import ImageStore, keep_once
from tasks.ownership import Ownership
from tasks.records import TaskRecord, now
from tasks.status import TERMINAL
from tasks.tables import DELIVERIES, IMAGES, TASKS, task_of

log = logging.getLogger(__name__)

SETTLED = timedelta(seconds=60)
"""A younger task may just be on its way into the queue."""
ENDED = timedelta(hours=2)
"""How long the engine remembers what has ended; longer than the minute over which it counts for rate limits."""
ORPHANED = timedelta(days=1)
"""A younger file may belong to a run that is still going to record it."""
REPORTED = timedelta(days=7)
"""How long what a provider reported is kept after its task has ended."""
BATCH = 500


class Repair:
    """The repairs, for all nodes together: doing one twice changes nothing."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        run: Callable[[str], Awaitable[None]],
        images: ImageStore,
        arrivals: Arrivals,
        callbacks: Callbacks,
    ) -> None:
        self._database = database
        self._engine = engine
        self._run = run
        self._images = images
        self._ownership = Ownership(database, images)
        self._arrivals = arrivals
        self._callbacks = callbacks

    async def stale(self) -> None:
        """Queue tasks again that have not ended and that the engine has lost, as after restoring an old back-up. One
        whose provider is gone is in a queue that nobody works on; it is run here, which ends it and says so."""
        unfinished = (
            select(TASKS)
            .where(or_(TASKS.c.status.not_in(TERMINAL), TASKS.c.listening), TASKS.c.created_at < now() - SETTLED)
            .order_by(TASKS.c.number)
            .limit(BATCH)
        )
        rows = await self._database.read(lambda connection: connection.execute(unfinished).all())
        if not rows:
            return
        lost = await self._engine.lost(row.id for row in rows) - self._engine.running
        for task in map(task_of, rows):
            if task.id not in lost:
                continue
            if task.provider in self._engine.queues:
                log.warning("Task %s was %s, and in no queue; it is queued again", task.id, task.status.value)
                await self._engine.enqueue_again(task.id, task.provider, task.turn)
            else:
                log.warning(
                    "Task %s was %s, and there is no provider %s any more", task.id, task.status.value, task.provider
                )
                await self._run(task.id)
                await self._engine.forget(task.id)

    async def forget(self) -> None:
        """Let the engine forget what is over, and providers' reports on it."""
        while await self._engine.clean_up(now() - ENDED, BATCH) >= BATCH:
            pass
        await self._callbacks.forget(now() - REPORTED)

    async def adopt(self) -> None:
        """Keep, as late, the pictures of tasks that have ended without them: they were stored, but then nobody could
        record them, or read the notes of them."""
        await self._adopted(await self._images.keys(FOLDER))

    async def sweep(self) -> None:
        """Delete the files that no row refers to, if the store is ours. A picture with a note may still be adopted."""
        if not await self._ownership.renew():
            return
        swept = (
            await self._sweep(FOLDER, self._adopted)
            + await self._sweep("originals", self._pictures)
            + await self._sweep("deliveries", self._deliveries)
        )
        if swept:
            log.warning("Swept %d files that no task refers to", swept)

    async def _sweep(self, folder: str, referred: Callable[[Collection[str]], Awaitable[set[str]]]) -> int:
        before = now() - ORPHANED
        keys = await self._images.keys(folder, before=before)
        swept = 0
        for start in range(0, len(keys), BATCH):
            some = keys[start : start + BATCH]
            orphans = sorted(set(some) - await referred(some))
            # The same bytes may have come again meanwhile.
            swept += await self._images.forget(orphans, before=before)
        return swept

    async def _pictures(self, keys: Collection[str]) -> set[str]:
        hashes = {_hash(key): key for key in keys}
        noted = {arrival.stored.sha256 for arrival in await self._arrivals.noted()}
        found = noted | await self._column(select(IMAGES.c.sha256).where(IMAGES.c.sha256.in_(hashes)))
        return {key for sha256, key in hashes.items() if sha256 in found}

    async def _adopted(self, keys: Collection[str]) -> set[str]:
        """The notes that a run may still need. What those of ended tasks speak of is recorded here."""
        noted = {task_id_in(key) for key in keys}
        wanted = select(TASKS).where(TASKS.c.id.in_(noted))
        rows = await self._database.read(lambda connection: connection.execute(wanted).all())
        running = set()
        for task in map(task_of, rows):
            if task.status.terminal and not task.listening:
                await self._keep(task)
            else:
                running.add(task.id)
        return {key for key in keys if task_id_in(key) in running}

    async def _keep(self, task: TaskRecord) -> None:
        for arrival in await self._arrivals.of(task.id):
            image = arrival.image(task)
            kept = await self._database.write(partial(keep_once, image=image, late=True))
            if kept.id == image.id:
                log.warning("Task %s: picture %d had arrived, and is added to it now", task.id, arrival.index)

    async def _deliveries(self, keys: Collection[str]) -> set[str]:
        return await self._column(select(DELIVERIES.c.body).where(DELIVERIES.c.body.in_(keys)))

    async def _column(self, wanted: Select[Any]) -> set[str]:
        return set(await self._database.read(lambda connection: connection.execute(wanted).scalars().all()))


def _hash(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]
