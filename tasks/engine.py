"""The durable engine: a queue that survives every crash, and the only file that knows DBOS.

DBOS gives the queue, the ownership of a running task and its recovery. It does not hold any state of ours: a task's
whole truth is its row and its event log (`tasks.journal`), so a recovered run looks there for how far it got, and
workflow steps are not used. What runs a task is given to `Engine` as a function.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions
from dbos._core import execute_dequeued_workflow
from dbos._dbos import _get_dbos_instance
from dbos._serialization import DBOSPortableJSON
from dbos._utils import GlobalParams, generate_uuid
from sqlmodel import Session

from tasks.database import Database

log = logging.getLogger(__name__)

QUEUE = "tasks"
WORKFLOW = "run_task"
# One version for ever: recovery and dequeue filter by it, and a task must outlive an upgrade.
VERSION = "1"
POLLING_SECONDS = 1.0
"""The safety net only: a committed enqueue wakes the worker by itself."""

Runner = Callable[[str], Awaitable[None]]

_engines: list[Engine] = []


@DBOS.workflow(name=WORKFLOW)
async def _run_task(task_id: str) -> None:
    await _engines[-1].run(task_id)


class Engine:
    """Runs tasks, at most `concurrency` at a time. One per process, because DBOS is."""

    def __init__(self, database: Database, runner: Runner, *, concurrency: int, executor: str = "darkroom") -> None:
        self._url = database.sync_url
        self._runner = runner
        self._concurrency = concurrency
        self._executor = executor
        self._running: dict[str, asyncio.Task[None]] = {}
        self._client: DBOSClient | None = None
        self._waking: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start working: what was queued or running when the last process ended comes first."""
        _engines.append(self)
        config = DBOSConfig(
            name="darkroom",
            system_database_url=self._url,
            executor_id=self._executor,
            application_version=VERSION,
            serializer=DBOSPortableJSON,
            log_level="WARNING",
            enable_otlp=False,
        )
        DBOS(config=config)
        _tame_the_log()
        # Not in a thread: DBOS runs workflows on the event loop it was launched from.
        DBOS.launch()
        await asyncio.to_thread(
            DBOS.register_queue,
            QUEUE,
            worker_concurrency=self._concurrency,
            polling_interval_sec=POLLING_SECONDS,
            on_conflict="always_update",
        )
        self._client = await asyncio.to_thread(
            DBOSClient, system_database_url=self._url, serializer=DBOSPortableJSON, application_name="darkroom"
        )
        self._waking = asyncio.create_task(self._keep_waking())

    def enqueue(self, session: Session, task_id: str) -> None:
        """Put a task into the queue, inside the caller's transaction. `wake` after the commit."""
        client = self._client
        if client is None:
            raise RuntimeError("the engine has not been started")
        options = EnqueueOptions(workflow_name=WORKFLOW, queue_name=QUEUE, workflow_id=task_id, app_version=VERSION)
        client.enqueue_in_transaction(session.connection(), options, task_id)

    def wake(self) -> None:
        """Look into the queue now, and not at the next poll."""
        self._woken.set()

    async def run(self, task_id: str) -> None:
        """Run one task to its end (called by the engine)."""
        if self._draining is not None:
            # A cancelled workflow stays pending, and is recovered by the next process.
            raise asyncio.CancelledError
        current = asyncio.current_task()
        if current is not None:
            self._running[task_id] = current
            # Only then does DBOS count it as ended, and let the next one take its place.
            current.add_done_callback(lambda _: self.wake())
        try:
            await self._runner(task_id)
        finally:
            self._running.pop(task_id, None)

    async def drain(self, seconds: float) -> None:
        """Take nothing new, wait for what is running, and leave what is still running then to the next start.

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
        await asyncio.to_thread(DBOS.destroy)
        if self._client is not None:
            await asyncio.to_thread(self._client.destroy)
        _engines.remove(self)

    async def _keep_waking(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await asyncio.to_thread(self._claim)
            except Exception:
                log.exception("The queue could not be looked into at once")

    def _claim(self) -> None:
        """Claim and start what is queued: the body of DBOS's own polling loop, which offers no way to be woken.

        The claim is one conditional UPDATE, so it cannot collide with the loop. Private names of DBOS 3.4.0, which is
        why its version is pinned; `tests/tasks/test_engine.py` fails if they change.
        """
        dbos = _get_dbos_instance()
        queue = dbos._sys_db.get_queue(QUEUE)
        if queue is None:
            return
        owner = generate_uuid()
        claimed, _ = dbos._sys_db.start_queued_workflows(
            queue,
            GlobalParams.executor_id,
            GlobalParams.app_version,
            None,
            dbos._active_workflows_set.count_for_queue(QUEUE),
            owner_xid=owner,
        )
        for status in dbos._sys_db.get_workflow_statuses(claimed):
            execute_dequeued_workflow(dbos, status, owner)


def _tame_the_log() -> None:
    """DBOS prints by itself; let its lines go where ours go, without those that only say that we stop."""
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True
    logger.addFilter(lambda record: "task cancelled" not in record.getMessage())
