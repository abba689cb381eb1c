"""What a working node does beside its tasks: say that it lives, take over from the dead, end what waits too long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from tasks.cancel import Cancels
from tasks.clocks import Clocks
from tasks.database import Database
from tasks.engine import Engine
from tasks.errors import DatabaseUnavailableError, TaskError
from tasks.events import Failed, TaskEvent
from tasks.failure import failed
from tasks.journal import Journal
from tasks.nodes import ONLY_NODE, Nodes, new_name
from tasks.records import TaskRecord
from tasks.repair import Repair
from tasks.signals import Signals
from tasks.start import QUEUED_SIGNAL
from tasks.status import TaskStatus
from tasks.tables import TASKS, task_of

log = logging.getLogger(__name__)

ROUND_SECONDS = 5.0
REPAIR_SECONDS = 60.0
FORGET_SECONDS = 3_600.0
SWEEP_SECONDS = 86_400.0


class Upkeep:
    """Chores, at regular times, for as long as the node works. `lease` is in seconds."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        journal: Journal,
        cancels: Cancels,
        clocks: Clocks,
        repair: Repair,
        signals: Signals,
        *,
        lease: float,
    ) -> None:
        self._database = database
        self._engine = engine
        self._journal = journal
        self._cancels = cancels
        self._clocks = clocks
        self._repair = repair
        self._signals = signals
        self._lease = lease
        self._nodes = None if database.sqlite else Nodes(database, lease)
        self.node = ONLY_NODE if database.sqlite else new_name()
        self._beaten_at: float | None = None
        self._deaf_until = 0.0
        """Until then nobody is taken for dead: this node could not hear them, and they could not be heard."""
        self._chores: list[asyncio.Task[None]] = []

    async def join(self) -> None:
        """Be on the list of nodes before anything is owned under this name."""
        if self._nodes is not None:
            at = time.monotonic()
            await self._nodes.join(self.node)
            self._engine.take_until(at + self._lease / 2)

    def start(self) -> None:
        """Begin with the chores; what an earlier process left undone is done first."""
        self._do(self._repair.stale, REPAIR_SECONDS)
        self._do(self._engine.find_mislaid, REPAIR_SECONDS)
        self._do(self._repair.forget, FORGET_SECONDS)
        self._do(self._repair.adopt, FORGET_SECONDS)
        self._do(self._repair.sweep, SWEEP_SECONDS)
        self._do(self._expire, min(ROUND_SECONDS, self._clocks.queue / 2, self._clocks.total / 2))
        self._do(self._cancels.look, ROUND_SECONDS)
        if self._nodes is not None:
            self._do(self._beat, self._lease / 5)
            self._do(self._take_over, self._lease / 5)

    async def stop(self) -> None:
        """Stop the chores. What this node still owns is put back into the queues, and it leaves the list."""
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        if self._nodes is None:
            return
        with suppress(DatabaseUnavailableError, SQLAlchemyError):
            await self._nodes.leave(self.node)
            if handed_over := await self._engine.recover([self.node]):
                await self._database.write(self._announce)
                log.info("%d tasks are handed over to the other nodes", handed_over)

    def _announce(self, connection: Connection) -> None:
        for queue in self._engine.queues:
            self._signals.send(connection, QUEUED_SIGNAL, queue)

    def _do(self, chore: Callable[[], Awaitable[None]], seconds: float) -> None:
        self._chores.append(asyncio.create_task(self._keep_doing(chore, seconds)))

    async def _keep_doing(self, chore: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            try:
                await chore()
            except (TaskError, SQLAlchemyError) as exc:
                log.warning("%s: %s", chore.__qualname__, exc)
            except Exception:
                log.exception("%s failed", chore.__qualname__)
            await asyncio.sleep(seconds)

    async def _beat(self) -> None:
        assert self._nodes is not None
        at = time.monotonic()
        alive = await self._nodes.beat(self.node)
        before_at, self._beaten_at = self._beaten_at, time.monotonic()
        if before_at is not None and self._beaten_at - before_at > self._lease / 2:
            # The database was away, or this node was frozen. Let the others say first that they live.
            self._deaf_until = self._beaten_at + self._lease
        if alive:
            self._engine.take_until(at + self._lease / 2)
            return
        before, self.node = self.node, new_name()
        log.warning("This node was taken for dead, and goes on as %s. Its tasks have been taken over.", self.node)
        await self.join()
        self._engine.rename(self.node)
        await self._engine.recover([before])

    async def _take_over(self) -> None:
        """Put back into the queues what dead nodes were running: whatever belongs to nobody on the list."""
        assert self._nodes is not None
        now = time.monotonic()
        if self._beaten_at is not None and now - self._beaten_at <= self._lease / 2 and now >= self._deaf_until:
            await self._nodes.bury()
        owners = await self._engine.owners()
        if not owners - {self.node}:
            return
        # Asked in this order: a node joins the list before it owns anything.
        dead = owners - await self._nodes.alive()
        if dead and (count := await self._engine.recover(dead)):
            log.warning("Taken over %d tasks of %s", count, ", ".join(sorted(dead)))

    async def _expire(self) -> None:
        """End the tasks that have waited in the queue for too long."""
        waiting = (
            select(TASKS)
            .where(TASKS.c.status == TaskStatus.QUEUED, TASKS.c.created_at < self._clocks.queue_began_before())
            .limit(100)
        )
        for row in await self._database.read(lambda connection: connection.execute(waiting).all()):
            await self._end(task_of(row))

    async def _end(self, task: TaskRecord) -> None:
        failure = self._clocks.failure(task)

        def end(connection: Connection) -> TaskEvent | None:
            still = (TASKS.c.id == task.id, TASKS.c.status == TaskStatus.QUEUED)
            values = failed(failure) | {"run": TASKS.c.run + 1, "retry_at": None}
            return self._journal.change(connection, still, Failed(failure), **values)

        event = await self._database.write(end)
        if event is not None:
            self._journal.publish(event)
            await self._engine.forget(task.id)
