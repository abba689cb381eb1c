"""Running a task: from the queue to its last event, through any number of crashes.

A run begins by claiming the task. What it then does follows from the row alone:

    queued                     record the intent, then post; that pays, and happens once
    submitting                 an earlier run may have posted: ask the provider, or the outcome is unknown
    running, can be resumed    go on watching the submission
    running, cannot            an earlier run lost sight of it: the outcome is unknown
    ended, still listening     go on watching quietly, for a picture that was paid for

Only a request that was provably not carried out is sent again; the row then goes back to `queued` until its time comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from pydantic import BaseModel

from providers.contract import (
    Accepted,
    Callback,
    Provider,
    ProviderDefinition,
    ProviderEvent,
    Submission,
)
from providers.errors import FailureCode, OutcomeUnknownError, ProviderError, Transport
from tasks.accounts import Accounts
from tasks.answer import Answer
from tasks.arrivals import Arrivals
from tasks.callbacks import Callbacks, TaskCallback
from tasks.cancel import Cancels
from tasks.clocks import Clocks, ExpiredError
from tasks.ending import EndedError, Ending
from tasks.errors import LostTaskError, NotAnImageError, StorageError
from tasks.events import RetryScheduled, StatusChanged
from tasks.failure import failure_of
from tasks.history import History
from tasks.images import ImageStore
from tasks.interruption import Interruption
from tasks.journal import Journal
from tasks.keeper import SUBMISSION, Keeper
from tasks.patience import patiently
from tasks.records import TaskRecord, now
from tasks.request import request_of
from tasks.retries import Retries
from tasks.status import TaskStatus
from tasks.uninterrupted import uninterrupted

log = logging.getLogger(__name__)

FIND_SECONDS = 300.0
"""How long to go on asking a provider that cannot be asked whether a request has arrived, or to wait for its report."""
LOOK_SECONDS = 30.0
"""How long a generation that nobody has watched for a while is watched at least, whatever the clocks say: its pictures
may have been ready for long."""

STORE_FIRST = (
    "Repair the picture store (DARKROOM_STORAGE_URL), or make room there, before you use `retryTask`: that pays again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What runs work with."""

    journal: Journal
    history: History
    images: ImageStore
    arrivals: Arrivals
    callbacks: Callbacks
    cancels: Cancels
    accounts: Accounts
    clocks: Clocks
    retries: Retries
    storage_patience: float


class Run:
    """One run of one task, from its claim on."""

    def __init__(
        self,
        task: TaskRecord,
        definition: ProviderDefinition[BaseModel],
        provider: Provider[BaseModel],
        at: Workplace,
        *,
        callback_base_url: str | None,
    ) -> None:
        self._definition = definition
        self._provider = provider
        self._at = at
        self._callback_base_url = callback_base_url
        self._keeper = Keeper(
            task,
            at.journal,
            at.images,
            arrivals=None if provider.capabilities.resumable else at.arrivals,
            storage_patience=at.storage_patience,
        )
        self._ending = Ending(
            self._keeper, at.journal, definition, delivers_images=provider.capabilities.delivers_images
        )
        self._interruption = Interruption(self._keeper, provider, at.clocks, self._ending, title=definition.title)
        self._known: dict[str, int] = {}
        self._opened: TaskCallback | None = None

    async def to_the_end(self) -> None:
        """Bring the task to its end. Only losing the task to another run, or being stopped, ends it earlier."""
        with self._at.cancels.wish(self._task.id) as self._ending.wish:
            if self._task.cancel_requested_at is not None:
                self._ending.wish.set()
            try:
                await self._begin()
                if not self._ending.complete():
                    await self._generate()
                await self._ending.finish()
            except EndedError:
                pass
            except ExpiredError as exc:
                if self._ending.complete():  # the time ran out while the last picture was being stored
                    await self._ending.finish()
                else:
                    await self._ending.fail(exc.failure)
            except ProviderError as exc:
                await self._ending.fail(failure_of(exc))
            except NotAnImageError as exc:
                await self._ending.fail(self._ending.own_failure(FailureCode.BAD_RESPONSE, str(exc)))
            except StorageError as exc:
                await self._ending.fail(self._ending.own_failure(FailureCode.STORAGE_FAILED, f"{exc}. {STORE_FIRST}"))
            finally:
                await self._keeper.end()
            if self._opened is not None:
                await self._opened.leave()

    async def give_up(self, error: Exception) -> None:
        """End the task after a fault of this server's own; the log has the details."""
        message = f"This server made a mistake ({type(error).__name__}); its log has the details."
        await self._ending.fail(self._ending.own_failure(FailureCode.INTERNAL, message))

    async def crashed(self, runs: int) -> None:
        """End a task at which this server has died again and again. What its provider goes on with, and tells again to
        whoever asks, is listened to later: it may only have run beside what the server died of."""
        listening = self._provider.capabilities.resumable and self._task.submission is not None
        later = " A picture that the provider finishes all the same is added to this task." if listening else ""
        message = (
            f"This server has stopped {runs} times in a row while it worked on this task, so it was given up.{later} "
            "Its log may say why; look at the provider's usage page before you start it again."
        )
        failure = self._ending.own_failure(FailureCode.CRASHED_REPEATEDLY, message)
        await self._ending.fail(failure, listening=listening)

    @property
    def _task(self) -> TaskRecord:
        return self._keeper.task

    @property
    def _title(self) -> str:
        return self._definition.title

    async def _begin(self) -> None:
        if self._task.run == 1:
            return  # nothing can have arrived
        images = (await self._at.history.images_of([self._task.id]))[self._task.id]
        self._known = {image.provider_image_id: image.index for image in images if image.provider_image_id is not None}
        try:
            await self._keeper.begin(images)
        except StorageError as exc:
            if self._ending.complete():
                return
            raise OutcomeUnknownError(
                f"This server stopped while {self._title} was generating, and the picture store, which may have the "
                f"answer, cannot be read: {exc}. It may have been billed. A picture that had arrived is added to this "
                "task when the store is back; look before you use `retryTask`, which pays again.",
                transport=Transport(self._task.transport or Transport.PERHAPS_SENT),
            ) from exc

    async def _generate(self) -> None:
        request = request_of(self._task, self._definition)
        resume = await self._resume()
        callback = await self._callback()
        if resume is not None:
            await self._follow(request, resume, callback)
            return
        while True:
            await self._until_its_turn()
            await self._intend()
            try:
                await self._follow(request, None, callback)
            except ProviderError as exc:
                await self._schedule(exc)
            else:
                return

    async def _intend(self) -> None:
        """Record that the request is about to be sent. Nothing may come between this and sending it."""
        task = self._task
        try:
            await self._keeper.record(
                StatusChanged(TaskStatus.SUBMITTING),
                status=TaskStatus.SUBMITTING,
                transport=Transport.PERHAPS_SENT.value,
                submitted_at=now(),
                attempt=task.attempt + 1,
                retry_at=None,
            )
        except BaseException as exc:
            self._at.accounts.abandoned(task.provider)
            if isinstance(exc, asyncio.CancelledError):
                # This server is being stopped, and nothing has been sent: the next run may.
                with suppress(LostTaskError):
                    await self._keeper.record(
                        StatusChanged(TaskStatus.QUEUED),
                        status=TaskStatus.QUEUED,
                        transport=task.transport,
                        submitted_at=None,
                        attempt=task.attempt,
                    )
            raise

    async def _callback(self) -> TaskCallback | None:
        if self._callback_base_url is None or not self._definition.reports:
            return None
        if self._opened is None:
            self._opened = await patiently(partial(self._at.callbacks.open, self._task, self._callback_base_url))
        return self._opened

    async def _resume(self) -> Submission | None:
        """The submission to go on watching; None when nothing has been posted yet."""
        task = self._task
        if task.status is TaskStatus.QUEUED:
            return None
        if task.submission is not None:
            if self._provider.capabilities.resumable:
                return await self._known_as(SUBMISSION.validate_python(task.submission))
            raise OutcomeUnknownError(
                f"This server stopped while {self._title} was generating, and that answer cannot be opened again. The "
                "generation was probably finished and billed. It is not sent again on its own; use `retryTask` if you "
                "want to pay for another one.",
                transport=Transport.ACCEPTED,
                request_id=SUBMISSION.validate_python(task.submission).request_id,
            )
        found = await self._interruption.watch_over(asyncio.create_task(self._find()), least=LOOK_SECONDS)
        if found is None:
            late = "A picture that it still reports is added to this task. " if self._reports else ""
            raise OutcomeUnknownError(
                f"This server stopped while the request was on its way to {self._title}, and nobody can tell whether "
                f"it arrived. It may have been billed. {late}It is not sent again on its own; look at the provider's "
                "usage page before you use `retryTask`.",
                transport=Transport.PERHAPS_SENT,
            )
        return await self._known_as(found)

    async def _known_as(self, submission: Submission) -> Submission:
        """Readers are told that the provider has it, if nobody has told them."""
        if not self._keeper.late:
            await self._keeper.accept(submission)
        return submission

    async def _find(self) -> Submission | None:
        """Ask the provider whether the request arrived; one that cannot be asked now is asked again. One that reports
        is waited for: only the request told it where to, so a report proves that it arrived."""
        found = await patiently(lambda: self._provider.find(self._task.id), OutcomeUnknownError, FIND_SECONDS)
        callback = await self._callback() if found is None and self._reports else None
        if callback is None:
            return found
        with suppress(TimeoutError):
            async with asyncio.timeout(FIND_SECONDS):
                await callback.called()
                return Submission()
        return None

    @property
    def _reports(self) -> bool:
        """Whether the result is sent to the callback."""
        return self._provider.capabilities.reports_result

    async def _until_its_turn(self) -> None:
        """Wait for the time of another attempt, and for an account that is refusing everything to recover."""
        accounts, provider = self._at.accounts, self._task.provider
        await self._interruption.look()
        if self._task.retry_at is not None:
            await self._interruption.wait((self._task.retry_at - now()).total_seconds())
        told = False
        while (seconds := accounts.admits(provider)) is not None:
            news = accounts.news(provider)
            if not told:
                told = True
                reason = accounts.reason(provider)
                await self._keeper.note(f"Waiting for {self._title}, which has refused or failed before. {reason}")
            await self._interruption.wait(seconds, news)

    async def _schedule(self, exc: ProviderError) -> None:
        """Plan another attempt, or raise the error where that could be paid twice, or makes no sense."""
        pause = self._at.retries.pause(self._task.attempt, exc)
        if pause is None or self._task.status is not TaskStatus.SUBMITTING or self._ending.wish.is_set():
            raise exc
        at = now() + timedelta(seconds=pause)
        await self._keeper.record(
            RetryScheduled(self._task.attempt + 1, at, failure_of(exc)),
            status=TaskStatus.QUEUED,
            transport=Transport.NOT_SENT.value,
            submitted_at=None,
            retry_at=at,
        )

    async def _follow(self, request: BaseModel, resume: Submission | None, callback: Callback | None) -> None:
        """Keep everything the provider says, until it has said everything, or somebody or a clock ends it."""
        running = self._provider.run(
            request, reference=self._task.id, resume=resume, callback=callback, known=self._known
        )
        paying = resume is None
        consuming = asyncio.create_task(self._consume(running, paying=paying))
        await self._interruption.watch_over(consuming, least=0.0 if paying else LOOK_SECONDS)
        if self._keeper.broken is not None and not self._keeper.late:
            raise self._keeper.broken

    async def _consume(self, running: AsyncGenerator[ProviderEvent, None], *, paying: bool) -> None:
        accounts, provider = self._at.accounts, self._task.provider
        try:
            if self._provider.capabilities.resumable:
                async with aclosing(running) as events:
                    async for event in events:
                        await self._keep(event)
            else:
                await self._keep_all(Answer(running))
        except ProviderError as exc:
            await accounts.failed(provider, exc)
            raise
        except BaseException:
            if paying:
                accounts.abandoned(provider)
            raise

    async def _keep_all(self, answer: Answer) -> None:
        """Keep an answer that cannot be opened again: what has been read of it is kept, whatever happens here."""
        try:
            async for event in answer:
                await self._keep(event)
        except BaseException as exc:
            # Where recording has failed it would fail again; what is stored is adopted later.
            record = isinstance(exc, asyncio.CancelledError)
            await uninterrupted(self._keeper.rescue(await answer.stop(), record=record))
            raise

    async def _keep(self, event: ProviderEvent) -> None:
        # What has arrived is kept, also by a server that is being stopped.
        await uninterrupted(self._keeper.take(event))
        if isinstance(event, Accepted):
            await self._at.accounts.succeeded(self._task.provider)
