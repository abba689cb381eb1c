"""A running Darkroom: the parts of this room, wired together, with a beginning and an end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress

from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_random_exponential

from providers.contract import Provider, ProviderDefinition
from providers.errors import Transport
from tasks.accounts import Accounts
from tasks.activity import Activities
from tasks.activity_log import ActivityLog
from tasks.arrivals import Arrivals
from tasks.callbacks import Callbacks
from tasks.cancel import Cancels
from tasks.clocks import Clocks
from tasks.counts import Counts
from tasks.database import Database
from tasks.engine import Engine, Owned, migrate_engine
from tasks.errors import DatabaseUnavailableError, LostTaskError, NotForSaleError, NotRetryableError
from tasks.events import Failed, TaskEvent
from tasks.failure import Failure, failed, other_account, unknown_provider
from tasks.feed import Feed
from tasks.history import History, finished
from tasks.images import ImageStore
from tasks.journal import EVENT_SIGNAL, Journal
from tasks.purchase import Purchases
from tasks.records import ImageRecord, TaskRecord
from tasks.repair import Repair
from tasks.retries import Retries
from tasks.run import Run, Workplace
from tasks.settings import TaskSettings
from tasks.signals import Signals
from tasks.start import QUEUED_SIGNAL, NewTask, retried, start
from tasks.turn import queue_positions
from tasks.upkeep import Upkeep
from tasks.watch import watch

log = logging.getLogger(__name__)

RETRY_SECONDS = 30
"""The longest wait before a run that could not even begin is tried again."""
MOST_IDLE_RUNS = 5
"""A task at which the server dies that often in a row, without recording anything in between, is given up."""
LEAVING_SECONDS = 0.5
"""How long a run that is being stopped may take to say that it did not crash."""
CLOSING_SECONDS = 1.5
"""How long letting go of everything may take. Whoever stops a server should not have to wait for its database."""
CANCEL_SECONDS = 10.0
"""How long canceling waits for the run that owns the task to say what it achieved."""


class Darkroom:
    """Starts tasks, runs them where it `works`, keeps them, shows them.

    `sandbox_url` is where this process, or another one, serves the simulators; providers without an account use it.
    `public_url` is where the world reaches this server, None if it does not; `base_url` is where this machine does.
    """

    def __init__(
        self,
        settings: TaskSettings,
        definitions: Sequence[ProviderDefinition[BaseModel]],
        *,
        sandbox_url: str,
        public_url: str | None,
        base_url: str,
        works: bool = True,
    ) -> None:
        self.settings = settings
        self.definitions: Mapping[str, ProviderDefinition[BaseModel]] = {one.name: one for one in definitions}
        self.providers: Mapping[str, Provider[BaseModel]] = {
            one.name: one.connect(f"{sandbox_url}/{one.name}") for one in definitions
        }
        self.stuck = False
        """Whether something that still waits for an answer was left behind when this was closed."""
        self._migrated = False
        self.feed = Feed()
        self._database = Database(settings.database)
        self._signals = Signals(self._database)
        self.history = History(self._database)
        self.images = ImageStore(settings.storage, self._database)
        self.callbacks = Callbacks(
            self._database,
            self.images,
            self._signals,
            storage_patience=settings.storage_patience_seconds,
            results=[name for name, provider in self.providers.items() if provider.capabilities.reports_result],
        )
        self.activities = Activities(ActivityLog(self._database), self.feed, Counts(self._database))
        self.accounts = Accounts(self._database, self._signals, self.providers)
        self._purchases = Purchases(self._database, self.history, self.images)
        self._public_url = public_url
        self._base_url = base_url
        self._journal = Journal(self._database, self.feed, self._signals)
        self._cancels = Cancels(self._database, self._journal, self._signals)
        clocks = Clocks(settings.queue_seconds, settings.generation_seconds, settings.total_seconds)
        arrivals = Arrivals(self.images)
        self._workplace = Workplace(
            journal=self._journal,
            history=self.history,
            images=self.images,
            arrivals=arrivals,
            callbacks=self.callbacks,
            cancels=self._cancels,
            accounts=self.accounts,
            clocks=clocks,
            retries=Retries(settings.retry_attempts, settings.retry_seconds),
            storage_patience=settings.storage_patience_seconds,
        )
        self._engine = Engine(
            self._database,
            self._run,
            {name: provider.limits for name, provider in self.providers.items()},
            concurrency=settings.concurrency,
            works=works,
        )
        self._upkeep = Upkeep(
            self._database,
            self._engine,
            self._journal,
            self._cancels,
            clocks,
            Repair(self._database, self._engine, self._run_once, self.images, arrivals, self.callbacks),
            self._signals,
            lease=settings.lease_seconds,
        )
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(Exception),
            wait=wait_random_exponential(max=RETRY_SECONDS),
            before_sleep=before_sleep_log(log, logging.ERROR, exc_info=True),
        )
        self._signals.on(EVENT_SIGNAL, self.feed.hint)
        self._signals.on(QUEUED_SIGNAL, self._engine.wake)
        self._signals.on_gap(self.feed.hint_all)

    @property
    def node(self) -> str:
        """The name under which it owns the tasks it runs."""
        return self._upkeep.node

    @property
    def running(self) -> frozenset[str]:
        """The tasks that are running here."""
        return self._engine.running

    def lock(self) -> None:
        """Make sure that no other server works here. Raises `AlreadyRunningError`."""
        self._database.lock()

    async def migrate(self) -> None:
        """Bring the database up to date, once. Nodes that start together take turns. Raises
        `DatabaseUnavailableError` when the database does not come up."""
        if self._migrated:
            return
        await self._database.migrate(lambda: migrate_engine(self._database.sync_url))
        await ActivityLog(self._database).settle()
        self._migrated = True

    async def open(self) -> None:
        """Bring the database up to date and start working; what the last process left behind comes first."""
        self.lock()
        await self.migrate()
        await self._signals.open()
        await self.accounts.open()
        if self._engine.works:
            await self._upkeep.join()
        await self._engine.start(self._upkeep.node)
        if self._engine.works:
            self._upkeep.start()

    async def drain(self) -> None:
        """Begin nothing new; what is still running after `shutdown_seconds` is handed over."""
        await self._engine.drain(self.settings.shutdown_seconds)

    async def close(self) -> None:
        """Let go of everything, or leave it behind when that takes too long. Whoever could still be served meanwhile
        should `drain` first."""
        await self._engine.drain(0)
        deadline = asyncio.get_running_loop().time() + CLOSING_SECONDS
        vendors = [provider.aclose for provider in self.providers.values()]
        upkeep = [self._upkeep.stop] if self._engine.works else []
        for step in (*upkeep, self._engine.stop, self._signals.close, *vendors, self._database.close):
            try:
                async with asyncio.timeout_at(deadline):
                    await step()
            except TimeoutError:
                self.stuck = True
        if self.stuck:
            log.warning("Stopping was cut short: the database does not answer. What was not handed over is taken over.")

    async def start(self, new: NewTask) -> TaskRecord:
        """Store and queue a task; see `tasks.start`."""
        return await start(
            new, database=self._database, journal=self._journal, engine=self._engine, signals=self._signals
        )

    async def cancel(self, task_id: str) -> TaskRecord | None:
        """Cancel a task, and give its row back as it is when that has had its effect; None if there is no such task.

        A task that has ended stays as it was. One whose run does not answer in time is given back as it is: the wish is
        recorded, and carried out when the run can.
        """
        task = await self.history.task(task_id)
        if task is None or task.status.terminal:
            return task
        if await self._cancels.request(task_id):
            with suppress(DatabaseUnavailableError, SQLAlchemyError):  # only tidiness
                await self._engine.forget(task_id)
        await self._until_ended(task_id, task.last_sequence)
        return await self.history.task(task_id)

    async def retry(self, task_id: str, *, idempotency_key: str | None) -> TaskRecord | None:
        """Start a task again as a new one that asks only for the pictures that are missing; None if there is no such
        task. Raises `NotRetryableError`, and what `start` raises."""
        task = await self.history.task(task_id)
        if task is None:
            return None
        definition = self.definitions.get(task.provider)
        if definition is None:
            raise NotRetryableError(f"This version of the server has no provider {task.provider!r}.")
        if not task.status.terminal:
            raise NotRetryableError(f"It is {task.status.value}; wait for its end, or cancel it first.")
        if (again := await retried(self._database, task, idempotency_key)) is not None:
            return again
        try:
            request = definition.request.model_validate(task.request)
        except ValidationError as exc:
            raise NotRetryableError(
                f"Its request no longer fits the rules for {definition.title}: {exc}. Start a new generation instead."
            ) from exc
        have = len({image.index for image in finished((await self.history.images_of([task_id]))[task_id])})
        missing = definition.expected_images(request) - have
        if missing <= 0:
            raise NotRetryableError("All its pictures are here. Start a new generation to get others.")
        return await self.start(
            NewTask(
                provider=task.provider,
                request=definition.with_images(request, missing),
                sandbox=self.providers[task.provider].sandbox,
                idempotency_key=idempotency_key,
                name=task.name,
                tags=task.tags,
                metadata=task.client_metadata,
                project=task.project,
                retried_from=task.id,
            )
        )

    async def queue_position(self, task: TaskRecord) -> int | None:
        """Its place in the queue of its provider, from 1; None when it is not waiting."""
        return (await queue_positions(self._database, [task.id])).get(task.id)

    async def purchase(self, image: ImageRecord) -> ImageRecord | None:
        """Buy the full picture behind a preview; see `tasks.purchase`. None when its task is not of this project."""
        task = await self.history.task(image.task_id)
        if task is None:
            return None
        provider = self.providers.get(task.provider)
        if provider is None or provider.sandbox != task.sandbox:
            raise NotForSaleError("It was made by an account, or a sandbox, that this server does not use now.")
        return await self._purchases.purchase(image, task, provider)

    def watch(self, task_id: str, after: int = 0, *, read_at: int | None = None) -> AsyncGenerator[TaskEvent, None]:
        """The events of a task, stored ones first, then live; see `tasks.watch`. Close it with `aclosing`."""
        return watch(self.feed, self.history, task_id, after, read_at=read_at)

    async def _until_ended(self, task_id: str, after: int) -> None:
        with suppress(TimeoutError):
            async with aclosing(self.watch(task_id, after)) as events:
                deadline = asyncio.get_running_loop().time() + CANCEL_SECONDS
                while True:
                    async with asyncio.timeout_at(deadline):
                        if await anext(events, None) is None:
                            return

    async def _run(self, task_id: str, owned: Owned) -> None:
        """Bring a task to its end, whatever happens: a fault of ours ends it, and one that cannot even be recorded
        (the database is away) is tried again until it can."""
        try:
            await self._run_once(task_id, owned)
        except Exception:
            log.exception("Task %s could not be run", task_id)
            await self._retrying.copy()(self._run_once, task_id, owned, again=True)

    async def _run_once(self, task_id: str, owned: Owned | None = None, *, again: bool = False) -> None:
        task = await self._journal.claim(task_id, again=again, owned=owned)
        if task is None:
            return
        transport = Transport(task.transport or Transport.NOT_SENT)
        definition, provider = self.definitions.get(task.provider), self.providers.get(task.provider)
        if definition is None or provider is None:
            await self._end_unrun(task, unknown_provider(task.provider, transport))
            return
        if task.sandbox != provider.sandbox:
            await self._end_unrun(task, other_account(definition.title, transport, sandbox=task.sandbox))
            return
        # The simulators can always reach their own machine.
        reachable = self._base_url if task.sandbox else self._public_url
        run = Run(task, definition, provider, self._workplace, callback_base_url=reachable)
        try:
            if task.idle_runs > MOST_IDLE_RUNS:
                log.error("Task %s was running each of the last %d times this server stopped", task_id, MOST_IDLE_RUNS)
                await run.crashed(MOST_IDLE_RUNS)
            else:
                await run.to_the_end()
        except LostTaskError as exc:
            log.info("%s", exc)
        except DatabaseUnavailableError:
            raise  # the next try goes on from the row
        except asyncio.CancelledError:
            # Being stopped in good order is no crash.
            with suppress(Exception):  # whatever the database says now: a run that is told to stop stops
                async with asyncio.timeout(LEAVING_SECONDS):
                    await self._journal.settle(task, idle_runs=0)
            raise
        except Exception as exc:
            log.exception("Task %s failed by a fault of this server", task_id)
            with suppress(LostTaskError):
                await run.give_up(exc)

    async def _end_unrun(self, task: TaskRecord, failure: Failure) -> None:
        """End a claimed task that this server cannot run, as it is set up now."""
        with suppress(LostTaskError):
            if task.status.terminal:  # it was canceled; nobody will hear what it still brings
                await self._journal.settle(task, listening=False)
            else:
                await self._journal.append(task, Failed(failure), **failed(failure))
