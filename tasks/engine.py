"""The durable engine: queues that survive every crash, and the only file that knows DBOS.

DBOS gives the queues, the ownership of a running task and its recovery. It does not hold any state of ours: a task's
whole truth is its row and its event log (`tasks.journal`), so a recovered run looks there for how far it got, and
workflow steps are not used. What runs a task is given to `Engine` as a function.

There is one queue per provider, because limits belong to an account. DBOS keeps a global limit by counting rows, and
a rate by looking at when they were started, so both hold for all nodes together.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime
from functools import partial

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions
from dbos._core import execute_dequeued_workflow
from dbos._dbos import _get_dbos_instance
from dbos._serialization import DBOSPortableJSON
from dbos._sys_db import SystemDatabase
from dbos._utils import GlobalParams, generate_uuid
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from providers.limits import Limits
from tasks.database import Database

log = logging.getLogger(__name__)

WORKFLOW = "run_task"
# One version for ever: recovery and dequeue filter by it, and a task must outlive an upgrade.
VERSION = "1"
POLLING_SECONDS = 5.0
"""The safety net only: a committed enqueue wakes the worker by itself."""
LIMITED_POLLING_SECONDS = 1.0
"""The same where tasks wait for a limit of the account to let them through, which nobody announces."""
CONFLICT_SECONDS = 0.05
"""About how long to wait when another node was looking into the queue at the same moment."""
STOP_SECONDS = 0.2
UNUSED_SECONDS = 3600.0
"""How often DBOS looks for what is not used here: schedules, and its own queue."""

Runner = Callable[[str], Awaitable[None]]

_engines: list[Engine] = []


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


@DBOS.workflow(name=WORKFLOW)
async def _run_task(task_id: str, queue: str = "") -> None:
    await _engines[-1].run(task_id, queue)


class Engine:
    """Queues tasks, and runs them where it `works`: at most `concurrency` of each queue at a time.

    One per process, because DBOS is.
    """

    def __init__(
        self,
        database: Database,
        runner: Runner,
        queues: Mapping[str, Limits],
        *,
        concurrency: int,
        works: bool = True,
    ) -> None:
        self._url = database.sync_url
        self._runner = runner
        self._queues = queues
        self._concurrency = concurrency
        self._node = ""
        self.works = works
        self._running: dict[str, asyncio.Task[None]] = {}
        self._client: DBOSClient | None = None
        self._waking: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._to_wake: set[str] = set()
        self._backlog: set[str] = set()
        self._draining: asyncio.Task[None] | None = None

    async def start(self, node: str) -> None:
        """Start working: what was queued, or running under the name of this node, comes first."""
        self._node = node
        if self.works:
            _engines.append(self)
            DBOS(config=self._config())
            _tame_the_log()
            # Not in a thread: DBOS runs workflows on the event loop it was launched from.
            DBOS.launch()
            _get_dbos_instance()._registry.get_internal_queue()._polling_interval_sec = UNUSED_SECONDS
        self._client = await asyncio.to_thread(
            DBOSClient, system_database_url=self._url, serializer=DBOSPortableJSON, application_name="darkroom"
        )
        if self.works:
            await asyncio.to_thread(self._register_queues)
            self._waking = asyncio.create_task(self._keep_waking())
            for queue in self._queues:
                self.wake(queue)

    def _config(self) -> DBOSConfig:
        return DBOSConfig(
            name="darkroom",
            system_database_url=self._url,
            executor_id=self._node,
            application_version=VERSION,
            serializer=DBOSPortableJSON,
            log_level="WARNING",
            enable_otlp=False,
            use_listen_notify=False,
            # Its thread sleeps for so long at a time, also when everything stops.
            notification_listener_polling_interval_sec=STOP_SECONDS,
            scheduler_polling_interval_sec=UNUSED_SECONDS,
        )

    def _register_queues(self) -> None:
        for name, limits in self._queues.items():
            limited = limits.concurrency is not None or limits.per_minute is not None
            DBOS.register_queue(
                name,
                worker_concurrency=min(self._concurrency, limits.concurrency or self._concurrency),
                global_concurrency=limits.concurrency,
                limiter=None if limits.per_minute is None else {"limit": limits.per_minute, "period": 60.0},
                polling_interval_sec=LIMITED_POLLING_SECONDS if limited else POLLING_SECONDS,
                on_conflict="always_update",
            )

    def enqueue(self, session: Session, task_id: str, queue: str, turn: int) -> None:
        """Put a task into a queue, inside the caller's transaction; lower turns go first. `wake` after the commit."""
        options = EnqueueOptions(
            workflow_name=WORKFLOW, queue_name=queue, workflow_id=task_id, app_version=VERSION, priority=turn + 1
        )
        self._open_client.enqueue_in_transaction(session.connection(), options, task_id, queue)

    def wake(self, queue: str) -> None:
        """Look into a queue now, and not at the next poll."""
        if self.works and queue in self._queues:
            self._to_wake.add(queue)
            self._woken.set()

    def full(self, queue: str) -> bool:
        """Whether this node would not start another task of the queue now, so that another one should look."""
        return not self.works or queue in self._backlog

    @property
    def running(self) -> frozenset[str]:
        """The tasks that are running here."""
        return frozenset(self._running)

    async def run(self, task_id: str, queue: str) -> None:
        """Run one task to its end (called by the engine)."""
        if self._draining is not None:
            # A cancelled workflow stays pending, and is handed over at the end.
            raise asyncio.CancelledError
        current = asyncio.current_task()
        if current is not None:
            self._running[task_id] = current
            # Only then does DBOS count it as ended, and let the next one take its place.
            current.add_done_callback(lambda _: self._ended(queue))
        try:
            await self._runner(task_id)
        finally:
            self._running.pop(task_id, None)

    def _ended(self, queue: str) -> None:
        if queue in self._backlog:
            self.wake(queue)

    async def forget(self, task_id: str) -> None:
        """Take a task out of its queue that needs no run any more. Leaving it there would only cost a moment."""
        await self._open_client.cancel_workflow_async(task_id)

    async def owners(self) -> set[str]:
        """The nodes that own running tasks, dead or alive."""
        pending = await self._open_client.list_workflows_async(status="PENDING", load_input=False, load_output=False)
        return {one.executor_id for one in pending if one.executor_id}

    async def recover(self, nodes: Collection[str]) -> int:
        """Put what these nodes were running back into the queues, and say how much that was. They must be dead."""
        recovered = await asyncio.to_thread(DBOS._recover_pending_workflows, list(nodes))
        for queue in self._queues:
            self.wake(queue)
        return len(recovered)

    def rename(self, node: str) -> None:
        """Own whatever is started from now on under another name: the old one has been declared dead."""
        self._node = node
        GlobalParams.executor_id = node

    async def lost(self, task_ids: Iterable[str]) -> set[str]:
        """Which of these tasks the engine would never run (again): it does not know them, or thinks they are over."""
        wanted = list(task_ids)
        known = await self._open_client.list_workflows_async(workflow_ids=wanted, load_input=False, load_output=False)
        return set(wanted) - {one.workflow_id for one in known if self._alive(one.status, one.queue_name)}

    def _alive(self, status: str, queue: str | None) -> bool:
        return status == "PENDING" or (status == "ENQUEUED" and queue in self._queues)

    async def enqueue_again(self, database: Database, task_id: str, queue: str, turn: int) -> None:
        """Queue a task anew that the engine had lost."""
        await self._open_client.delete_workflow_async(task_id)
        await database.write(lambda session: self.enqueue(session, task_id, queue, turn))
        self.wake(queue)

    async def clean_up(self, before: datetime) -> int:
        """Forget what ended before that time, and say how much that was. Its tasks stay, in our own tables."""
        ended = await self._open_client.list_workflows_async(
            status=["SUCCESS", "ERROR", "CANCELLED"],
            completed_before=before.isoformat(),
            limit=500,
            load_input=False,
            load_output=False,
        )
        await self._open_client.delete_workflows_async([one.workflow_id for one in ended])
        return len(ended)

    async def drain(self, seconds: float) -> None:
        """Take nothing new, wait for what is running, and leave what is still running then to another run.

        A second call waits for the first one.
        """
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(seconds))
        await asyncio.shield(self._draining)

    async def _drain(self, seconds: float) -> None:
        if self._waking is not None:
            self._waking.cancel()
            await asyncio.gather(self._waking, return_exceptions=True)
        if running := list(self._running.values()):
            _, left = await asyncio.wait(running, timeout=seconds)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def stop(self) -> None:
        """Stop the engine itself. `drain` it first."""
        if self in _engines:
            await asyncio.to_thread(DBOS.destroy)
            _engines.remove(self)
        if self._client is not None:
            await asyncio.to_thread(self._client.destroy)
            self._client = None

    async def _keep_waking(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            queues, self._to_wake = self._to_wake, set()
            for queue in queues:
                try:
                    await asyncio.to_thread(self._claim, queue)
                except DBAPIError as exc:
                    self._claim_failed(queue, exc)
                except Exception:
                    log.exception("The queue %s could not be looked into at once", queue)

    def _claim_failed(self, queue: str, exc: DBAPIError) -> None:
        """Another node was there at the same moment, or the database is away; polling goes on in any case."""
        system = _get_dbos_instance()._sys_db
        if system.is_lock_conflict(exc) or system.is_serialization_conflict(exc):
            pause = CONFLICT_SECONDS * random.uniform(0.5, 1.5)
            asyncio.get_running_loop().call_later(pause, partial(self.wake, queue))
        else:
            log.warning("The queue %s could not be looked into at once: %s", queue, exc.orig)

    def _claim(self, name: str) -> None:
        """Claim and start what is queued: the body of DBOS's own polling loop, which offers no way to be woken.

        The claim is one conditional UPDATE, so it cannot collide with the loop. Private names of DBOS 3.4.0, which is
        why its version is pinned; `tests/tasks/test_engine.py` fails if they change.
        """
        dbos = _get_dbos_instance()
        queue = dbos._sys_db.get_queue(name)
        if queue is None:
            return
        owner = generate_uuid()
        running = dbos._active_workflows_set.count_for_queue(name)
        claimed, stopped_by = dbos._sys_db.start_queued_workflows(
            queue,
            GlobalParams.executor_id,
            GlobalParams.app_version,
            None,
            running,
            owner_xid=owner,
        )
        room = self._concurrency - running
        more = stopped_by is not None or len(claimed) >= room
        (self._backlog.add if more else self._backlog.discard)(name)
        for status in dbos._sys_db.get_workflow_statuses(claimed) if claimed else ():
            execute_dequeued_workflow(dbos, status, owner)

    @property
    def _open_client(self) -> DBOSClient:
        if self._client is None:
            raise RuntimeError("the engine has not been started")
        return self._client


def _tame_the_log() -> None:
    """DBOS prints by itself; let its lines go where ours go, without those that only say that we stop."""
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True
    logger.addFilter(lambda record: "task cancelled" not in record.getMessage())
