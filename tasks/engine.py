"""The durable engine: queues that survive every crash, and the only file that knows DBOS.

DBOS keeps the queues: who waits, whose turn it is, which node owns what is running, how much of an account's limits is
used; and it gives back to a queue what a dead node owned. It does not hold any state of ours: a task's whole truth is
its row and its event log (`tasks.journal`), so a recovered run looks there for how far it got. That is also why nothing
of DBOS runs here: its own loop would read, wrap and record every task once more, which costs more than all of our
writing together. This file claims by DBOS's own transaction, runs the task, and tells the queue that it is over.

There is one queue per provider, because limits belong to an account. DBOS keeps a global limit by counting rows, and
a rate by looking at when they were started, so both hold for all nodes together.

It relies on private names of DBOS 3.4.0, which is why its version is pinned; `tests/tasks/test_engine.py` fails when
either changes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from dbos import DBOSClient, EnqueueOptions
from dbos._queue import Queue
from dbos._schemas import SCHEMA_PLACEHOLDER
from dbos._serialization import DBOSPortableJSON
from dbos._sys_db import SystemDatabase
from dbos._utils import INTERNAL_QUEUE_NAME
from sqlalchemy import Connection, CursorResult, Executable, Select, Update, bindparam, select, tuple_
from sqlalchemy.exc import DBAPIError

from providers.limits import Limits
from tasks.database import Database
from tasks.errors import DatabaseUnavailableError
from tasks.patience import patiently
from tasks.postgresql import keep_no_spent_sessions

S = TypeVar("S", bound=Executable)

log = logging.getLogger(__name__)
logging.getLogger("dbos").setLevel(logging.WARNING)

APPLICATION = "darkroom"
WORKFLOW = "run_task"
# One version for ever: recovery and dequeue filter by it, and a task must outlive an upgrade.
VERSION = "1"
POLLING_SECONDS = 5.0
"""The safety net only: a committed enqueue wakes the worker by itself."""
LIMITED_POLLING_SECONDS = 1.0
"""The same where tasks wait for a limit of the account to let them through, which nobody announces."""
LEAVING_SECONDS = 1.5
"""How long what was told to stop may take to record where it is. What takes longer is recovered as after a crash."""
LEAVING_AT_ONCE_SECONDS = 0.75
"""The same for what had to be told twice, and for the last words to the queues."""
MISLAID_SECONDS = 60.0
"""What was given to this node so long ago runs, or never will."""
CONFLICT_SECONDS = 0.05
"""About how long to wait when another node was looking into the queue at the same moment."""

Owned = Callable[[Connection], bool]
"""Whether a task is still given to whoever asks. Until the transaction of the connection ends, it stays so."""
Runner = Callable[[str, Owned], Awaitable[None]]


def migrate_engine(url: str) -> None:
    """Bring the engine's own tables up to date."""
    system = SystemDatabase.create(
        system_database_url=url,
        engine_kwargs={},
        engine=None,
        schema=None,
        serializer=DBOSPortableJSON,
        executor_id=None,
        use_listen_notify=False,
    )
    try:
        system.run_migrations()
    finally:
        system.destroy()


@dataclass(slots=True)
class _Worked:
    """A queue this node works on."""

    limits: Limits
    handle: Queue
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    running: dict[asyncio.Task[None], str] = field(default_factory=dict)
    """The runs, with their tasks. Two runs of one task may overlap, when it was taken from the older one."""
    backlog: bool = False
    """Whether more is waiting than could be started when it was last looked into."""


class Engine:
    """Queues tasks, and runs them where it `works`: at most `concurrency` of each queue at a time."""

    def __init__(
        self,
        database: Database,
        runner: Runner,
        queues: Mapping[str, Limits],
        *,
        concurrency: int,
        works: bool = True,
    ) -> None:
        self._database = database
        self._runner = runner
        self._limits = queues
        self._concurrency = concurrency
        self.works = works
        self._node = ""
        self._owned: Select[tuple[str]]
        self._takes_until = math.inf
        self._client: DBOSClient | None = None
        self._queues: dict[str, _Worked] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._ended: list[tuple[str, str]] = []
        self._over: set[str] = set()
        """What has ended here, until the queue knows."""
        self._telling: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None

    async def start(self, node: str) -> None:
        """Start working: what was queued, or running under the name of this node, comes first."""
        self._node = node
        self._client = await asyncio.to_thread(
            DBOSClient,
            system_database_url=self._database.sync_url,
            serializer=DBOSPortableJSON,
            application_name=APPLICATION,
            retry_connection_errors=False,
        )
        if not self._database.sqlite:
            keep_no_spent_sessions(self._system.engine)
        if not self.works:
            return
        rows = self._system.tables.workflow_status
        self._owned = self._placed(
            select(rows.c.status)
            .where(
                rows.c.workflow_uuid == bindparam("task_id"),
                rows.c.owner_xid == bindparam("owner"),
                rows.c.status == "PENDING",
            )
            .with_for_update(read=True)
        )
        await self.recover([node])
        for name, limits in self._limits.items():
            handle = await asyncio.to_thread(self._register, name, limits)
            self._queues[name] = _Worked(limits, handle)
            self._loops.append(asyncio.create_task(self._work_on(name)))

    def _register(self, name: str, limits: Limits) -> Queue:
        return self._open_client.register_queue(
            name,
            worker_concurrency=min(self._concurrency, limits.concurrency or self._concurrency),
            global_concurrency=limits.concurrency,
            limiter=None if limits.per_minute is None else {"limit": limits.per_minute, "period": 60.0},
            on_conflict="always_update",
        )

    def enqueue(self, connection: Connection, task_id: str, queue: str, turn: int) -> None:
        """Put a task into a queue, inside the caller's transaction; lower turns go first. `wake` after the commit."""
        options = EnqueueOptions(
            workflow_name=WORKFLOW, queue_name=queue, workflow_id=task_id, app_version=VERSION, priority=turn + 1
        )
        self._open_client.enqueue_in_transaction(connection, options, task_id)

    def wake(self, queue: str) -> None:
        """Look into a queue now, and not at the next poll."""
        if queue in self._queues:
            self._queues[queue].woken.set()

    def full(self, queue: str) -> bool:
        """Whether this node would not start another task of the queue now, so that another one should look."""
        return queue not in self._queues or self._queues[queue].backlog or self._draining is not None or not self._takes

    def take_until(self, at: float) -> None:
        """Take nothing from the queues after that time of the monotonic clock, unless this is said again: the others
        may think by then that this node is dead, and take it away. Until the first time there is no end."""
        took, self._takes_until = self._takes, at
        if not took:
            for queue in self._queues:
                self.wake(queue)

    @property
    def _takes(self) -> bool:
        return time.monotonic() < self._takes_until

    @property
    def queues(self) -> Collection[str]:
        """The names of all queues."""
        return self._limits.keys()

    @property
    def running(self) -> frozenset[str]:
        """The tasks that are running here."""
        return frozenset(task_id for queue in self._queues.values() for task_id in queue.running.values())

    async def forget(self, task_id: str) -> None:
        """Take a task out of its queue that needs no run any more. Left there, it would use up a start of the account's
        limit."""
        rows, at = self._system.tables.workflow_status, int(time.time() * 1000)
        statement = (
            rows.update()
            .where(rows.c.workflow_uuid == task_id, rows.c.status == "ENQUEUED")
            .values(status="CANCELLED", queue_name=None, updated_at=at, completed_at=at)
        )
        await self._database.write(lambda connection: self._execute(connection, statement))

    async def owners(self) -> set[str]:
        """The nodes that own running tasks, dead or alive."""
        rows = self._system.tables.workflow_status
        owners = select(rows.c.executor_id).where(rows.c.status == "PENDING").distinct()
        found = await self._database.read(lambda connection: self._execute(connection, owners).scalars().all())
        return {name for name in found if name}

    async def recover(self, nodes: Collection[str]) -> int:
        """Put what these nodes were running back into the queues, and say how much that was. They must be dead."""
        recovered = await self._database.outside(lambda: self._recover(list(nodes)))
        for queue in self._queues:
            self.wake(queue)
        return recovered

    def _recover(self, nodes: list[str]) -> int:
        pending = [one for node in nodes for one in self._system.get_pending_workflows(node, VERSION)]
        again = [self._system.reenqueue_for_recovery(one.workflow_id, nodes, INTERNAL_QUEUE_NAME) for one in pending]
        return sum(again)

    async def find_mislaid(self) -> None:
        """Put back into the queues what was given to this node a while ago and does not run here: the answer to its
        claim was lost."""
        rows, before = self._system.tables.workflow_status, int((time.time() - MISLAID_SECONDS) * 1000)
        given = select(rows.c.workflow_uuid).where(
            rows.c.executor_id == self._node, rows.c.status == "PENDING", rows.c.started_at_epoch_ms < before
        )
        found = await self._database.read(lambda connection: self._execute(connection, given).scalars().all())
        for task_id in found:
            if task_id in self.running or task_id in self._over:
                continue
            log.warning("Task %s was given to this node, but does not run here; it is queued again", task_id)
            again = partial(self._system.reenqueue_for_recovery, task_id, [self._node], INTERNAL_QUEUE_NAME)
            if await self._database.outside(again):
                for queue in self._queues:
                    self.wake(queue)

    def rename(self, node: str) -> None:
        """Own whatever is started from now on under another name: the old one has been declared dead."""
        self._node = node

    async def lost(self, task_ids: Iterable[str]) -> set[str]:
        """Which of these tasks the engine would never run (again): it does not know them, or thinks they are over."""
        wanted = list(task_ids)
        known = await self._open_client.list_workflows_async(workflow_ids=wanted, load_input=False, load_output=False)
        return set(wanted) - {one.workflow_id for one in known if self._alive(one.status, one.queue_name)}

    def _alive(self, status: str, queue: str | None) -> bool:
        return status == "PENDING" or (status == "ENQUEUED" and queue in self._limits)

    async def enqueue_again(self, task_id: str, queue: str, turn: int) -> None:
        """Queue a task anew that the engine had lost."""
        await self._database.outside(lambda: self._open_client.delete_workflow(task_id))
        await self._database.write(lambda connection: self.enqueue(connection, task_id, queue, turn))
        self.wake(queue)

    async def clean_up(self, before: datetime, most: int) -> int:
        """Forget what ended before that time, at most so much at once, and say how much that was. The tasks stay, in
        our own tables."""
        ended = await self._open_client.list_workflows_async(
            status=["SUCCESS", "ERROR", "CANCELLED"],
            completed_before=before.isoformat(),
            limit=most,
            load_input=False,
            load_output=False,
        )
        await self._database.outside(lambda: self._open_client.delete_workflows([one.workflow_id for one in ended]))
        return len(ended)

    async def drain(self, seconds: float) -> None:
        """Take nothing new, wait for what is running, and leave what is still running then to another run.

        A second call waits for the first one.
        """
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(seconds))
        await asyncio.shield(self._draining)

    async def _drain(self, seconds: float) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if running := [run for queue in self._queues.values() for run in queue.running]:
            _, left = await asyncio.wait(running, timeout=seconds)
            # Told once, a run still waits for a store that is away; told again, for nothing.
            for seconds in (LEAVING_SECONDS, LEAVING_AT_ONCE_SECONDS):
                for run in left:
                    run.cancel()
                if left:
                    _, left = await asyncio.wait(left, timeout=seconds)
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=LEAVING_AT_ONCE_SECONDS)

    async def stop(self) -> None:
        """Stop the engine itself. `drain` it first."""
        if self._client is not None:
            await asyncio.to_thread(self._client.destroy)
            self._client = None

    async def _work_on(self, name: str) -> None:
        """Start what is queued, whenever there is something, for as long as this node works."""
        queue = self._queues[name]
        limited = queue.limits.concurrency is not None or queue.limits.per_minute is not None
        polling = LIMITED_POLLING_SECONDS if limited else POLLING_SECONDS
        while True:
            queue.woken.clear()
            pause = polling * random.uniform(0.9, 1.1)
            owner = uuid4().hex
            try:
                if self._takes:
                    for task_id in await self._database.outside(lambda: self._claim(queue, owner)):  # noqa: B023
                        self._start(queue, task_id, owner)
                else:
                    log.warning("The queue %s is left to the other nodes until this one is heard again", name)
            except DatabaseUnavailableError as exc:
                log.warning("The queue %s cannot be looked into now: %s", name, exc)
            except DBAPIError as exc:
                if self._system.is_lock_conflict(exc) or self._system.is_serialization_conflict(exc):
                    pause = CONFLICT_SECONDS * random.uniform(0.5, 1.5)
                else:
                    log.warning("The queue %s cannot be looked into now: %s", name, exc.orig)
            except Exception:
                log.exception("The queue %s could not be looked into", name)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await queue.woken.wait()

    def _claim(self, queue: _Worked, owner: str) -> list[str]:
        """Make this node the owner of what is next: one conditional UPDATE, so no two nodes get the same."""
        room = self._concurrency - len(queue.running)
        claimed, stopped_by = self._system.start_queued_workflows(
            queue.handle, self._node, VERSION, None, len(queue.running), owner_xid=owner, is_latest_version=True
        )
        queue.backlog = stopped_by is not None or len(claimed) >= room
        return claimed

    def _start(self, queue: _Worked, task_id: str, owner: str) -> None:
        run = asyncio.create_task(self._run(task_id, owner))
        queue.running[run] = task_id
        run.add_done_callback(lambda ended: queue.running.pop(ended, None))

    async def _run(self, task_id: str, owner: str) -> None:
        """Run one task to its end, and tell the queue. One that is cancelled stays this node's, to be handed over."""
        await self._runner(task_id, partial(self._owns, task_id, owner))
        self._ended.append((task_id, owner))
        self._over.add(task_id)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_ended())

    def _owns(self, task_id: str, owner: str, connection: Connection) -> bool:
        """Whether nobody has taken a task over since it was claimed; locked, so that nobody does meanwhile either."""
        return connection.execute(self._owned, {"task_id": task_id, "owner": owner}).first() is not None

    async def _tell_ended(self) -> None:
        """Tell the queues what is over; what ends meanwhile is told together, the next time round."""
        while self._ended:
            ended, self._ended = self._ended, []
            record = partial(self._record_ended, ended)
            # For ever: until then they count against the account's limits.
            await patiently(partial(self._database.write, record), seconds=math.inf)
            self._over.difference_update(task_id for task_id, _ in ended)
            for queue in self._queues.values():
                if queue.backlog:
                    queue.woken.set()

    def _record_ended(self, ended: list[tuple[str, str]], connection: Connection) -> None:
        """Whatever was taken over meanwhile is left alone."""
        rows, at = self._system.tables.workflow_status, int(time.time() * 1000)
        self._execute(
            connection,
            rows.update()
            .where(
                rows.c.workflow_uuid.in_([task_id for task_id, _ in ended]),  # has an index
                # As pairs: what is claimed together has one owner, also a task that an older run has just left.
                tuple_(rows.c.workflow_uuid, rows.c.owner_xid).in_(ended),
                rows.c.status == "PENDING",
            )
            .values(status="SUCCESS", owner_xid=None, updated_at=at, completed_at=at),
        )

    def _execute(self, connection: Connection, statement: Select[tuple[str | None]] | Update) -> CursorResult[Any]:
        return connection.execute(self._placed(statement))

    def _placed(self, statement: S) -> S:
        """A statement on DBOS's tables; where those are depends on the database."""
        return statement.execution_options(schema_translate_map={SCHEMA_PLACEHOLDER: self._system.schema})

    @property
    def _system(self) -> SystemDatabase:
        return self._open_client._sys_db

    @property
    def _open_client(self) -> DBOSClient:
        if self._client is None:
            raise RuntimeError("the engine has not been started")
        return self._client
