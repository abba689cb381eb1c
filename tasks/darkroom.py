"""A running Darkroom: the parts of this room, wired together, with a beginning and an end."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress

from pydantic import BaseModel
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_random_exponential

from providers.contract import Callback, Provider, ProviderDefinition
from providers.errors import Transport
from tasks.callbacks import Callbacks
from tasks.database import Database
from tasks.engine import Engine
from tasks.errors import LostTaskError
from tasks.events import Failed, TaskEvent
from tasks.failure import failed, unknown_provider
from tasks.feed import Feed
from tasks.history import History
from tasks.images import ImageStore
from tasks.journal import Journal
from tasks.purchase import Purchases
from tasks.records import ImageRecord, TaskRecord
from tasks.run import Run
from tasks.settings import TaskSettings
from tasks.start import NewTask, start
from tasks.watch import watch

log = logging.getLogger(__name__)

RETRY_SECONDS = 30
"""The longest wait before a run that could not even begin is tried again."""


class Darkroom:
    """Starts tasks, runs them, keeps them, shows them.

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
    ) -> None:
        self.settings = settings
        self.definitions: Mapping[str, ProviderDefinition[BaseModel]] = {one.name: one for one in definitions}
        self.providers: Mapping[str, Provider[BaseModel]] = {
            one.name: one.connect(f"{sandbox_url}/{one.name}") for one in definitions
        }
        self.feed = Feed()
        self._database = Database(settings.database)
        self.history = History(self._database)
        self.images = ImageStore(settings.storage, self._database)
        self.callbacks = Callbacks(self._database, self.images)
        self._purchases = Purchases(self._database, self.history, self.images)
        self._public_url = public_url
        self._base_url = base_url
        self._journal = Journal(self._database, self.feed)
        self._engine = Engine(self._database, self._run, concurrency=settings.concurrency)

    def lock(self) -> None:
        """Make sure that no other server works here. Raises `AlreadyRunningError`."""
        self._database.lock()

    async def open(self) -> None:
        """Bring the database up to date and start working; what the last process left behind comes first."""
        self.lock()
        await self._database.migrate()
        await self._engine.start()

    async def drain(self) -> None:
        """Begin nothing new; what is still running after `shutdown_seconds` is left to the next start."""
        await self._engine.drain(self.settings.shutdown_seconds)

    async def close(self) -> None:
        """Let go of everything. Whoever could still be served meanwhile should `drain` first."""
        await self._engine.drain(0)
        await self._engine.stop()
        for provider in self.providers.values():
            await provider.aclose()
        await self._database.close()

    async def start(self, new: NewTask) -> TaskRecord:
        """Store and queue a task; see `tasks.start`."""
        return await start(new, database=self._database, journal=self._journal, engine=self._engine)

    async def purchase(self, image: ImageRecord) -> ImageRecord | None:
        """Buy the full picture behind a preview; see `tasks.purchase`. None when its task is not of this project."""
        task = await self.history.task(image.task_id)
        return None if task is None else await self._purchases.purchase(image, task, self.providers[task.provider])

    def watch(self, task_id: str, after: int = 0) -> AsyncGenerator[TaskEvent, None]:
        """The events of a task, stored ones first, then live; see `tasks.watch`. Close it with `aclosing`."""
        return watch(self.feed, self.history, task_id, after)

    async def _run(self, task_id: str) -> None:
        """Bring a task to its end, whatever happens: a fault of ours ends it, and one that cannot even be recorded
        (the database is away) is tried again until it can."""
        patiently = AsyncRetrying(
            retry=retry_if_exception_type(Exception),
            wait=wait_random_exponential(max=RETRY_SECONDS),
            before_sleep=before_sleep_log(log, logging.ERROR, exc_info=True),
        )
        async for attempt in patiently:
            with attempt:
                await self._run_once(task_id)

    async def _run_once(self, task_id: str) -> None:
        task = await self._journal.claim(task_id)
        if task is None:
            return
        definition, provider = self.definitions.get(task.provider), self.providers.get(task.provider)
        if definition is None or provider is None:
            failure = unknown_provider(task.provider, Transport(task.transport or Transport.NOT_SENT))
            await self._journal.append(task, Failed(failure), **failed(failure))
            return
        run = Run(
            task,
            definition,
            provider,
            journal=self._journal,
            history=self.history,
            images=self.images,
            callback=await self._callback(task),
        )
        try:
            await run.to_the_end()
        except LostTaskError as exc:
            log.info("%s", exc)
        except Exception as exc:
            log.exception("Task %s failed by a fault of this server", task_id)
            with suppress(LostTaskError):
                await run.give_up(exc)

    async def _callback(self, task: TaskRecord) -> Callback | None:
        """Where the provider can report on a task; the simulators can always reach their own machine."""
        base_url = self._base_url if task.sandbox else self._public_url
        reports = self.definitions[task.provider].reports
        return None if base_url is None or not reports else await self.callbacks.open(task, base_url)
