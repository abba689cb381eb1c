"""Running a task: from the queue to its last event, through any number of crashes.

A run begins by claiming the task. What it then does follows from the row alone:

    queued                     record the intent, then post; that pays, and happens once
    submitting                 an earlier run may have posted: ask the provider, or the outcome is unknown
    running, can be resumed    go on watching the submission
    running, cannot            an earlier run lost sight of it: the outcome is unknown

Everything the provider says is recorded before the next thing is read, and a picture is stored before it is announced.
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import aclosing

from pydantic import BaseModel, TypeAdapter, ValidationError

from providers.contract import (
    Accepted,
    Callback,
    FinalImage,
    Notice,
    PartialImage,
    Progress,
    Provider,
    ProviderDefinition,
    ProviderEvent,
    Submission,
    Usage,
)
from providers.errors import FailureCode, InvalidRequestError, OutcomeUnknownError, ProviderError, Transport
from tasks.errors import NotAnImageError, StorageError
from tasks.events import (
    Change,
    Failed,
    HandedOff,
    ImageReady,
    NoticeGiven,
    PartialImageReady,
    Progressed,
    StatusChanged,
    Succeeded,
    UsageReported,
)
from tasks.failure import Failure, failed, failure_of
from tasks.history import History
from tasks.images import ImageStore, image_record
from tasks.journal import Journal
from tasks.records import ImageKind, ImageRecord, TaskRecord, now
from tasks.status import TaskStatus
from tasks.uninterrupted import uninterrupted

SUBMISSION: TypeAdapter[Submission] = TypeAdapter(Submission)


class Run:
    """One run of one task, from its claim on."""

    def __init__(
        self,
        task: TaskRecord,
        definition: ProviderDefinition[BaseModel],
        provider: Provider[BaseModel],
        *,
        journal: Journal,
        history: History,
        images: ImageStore,
        callback: Callback | None,
    ) -> None:
        self._task = task
        self._definition = definition
        self._provider = provider
        self._journal = journal
        self._history = history
        self._images = images
        self._callback = callback
        self._seen: set[tuple[ImageKind, int, int]] = set()
        self._placeholders: set[asyncio.Task[None]] = set()
        self._broken: StorageError | None = None

    async def to_the_end(self) -> None:
        """Bring the task to its end. Only losing the task to another run, or being stopped, ends it earlier."""
        try:
            await self._load_seen()
            if not self._complete():
                await self._generate()
            await self._finish()
        except ProviderError as exc:
            await self._fail(failure_of(exc))
        except NotAnImageError as exc:
            await self._fail(self._own_failure(FailureCode.BAD_RESPONSE, str(exc)))
        except StorageError as exc:
            await self._fail(self._own_failure(FailureCode.STORAGE_FAILED, str(exc)))
        finally:
            await asyncio.gather(*self._placeholders)

    async def give_up(self, error: Exception) -> None:
        """End the task after a fault of this server's own; the log has the details."""
        message = f"This server made a mistake ({type(error).__name__}); its log has the details."
        await self._fail(self._own_failure(FailureCode.INTERNAL, message))

    async def _generate(self) -> None:
        request = self._request()
        resume = await self._resume()
        if resume is None:
            await self._record(
                StatusChanged(TaskStatus.SUBMITTING),
                status=TaskStatus.SUBMITTING,
                transport=Transport.PERHAPS_SENT.value,
                submitted_at=now(),
            )
        running = self._provider.run(request, reference=self._task.id, resume=resume, callback=self._callback)
        async with aclosing(running) as events:
            async for event in events:
                # What has arrived is kept, also by a server that is being stopped.
                await uninterrupted(self._take(event))
        if self._broken is not None:
            raise self._broken

    def _complete(self) -> bool:
        """Whether every picture is here already: an earlier run then stopped just before it could say so."""
        return 0 < len(self._finished) >= self._definition.expected_images(self._request())

    @property
    def _finished(self) -> set[int]:
        """Which pictures have arrived, in full or as a preview."""
        return {index for kind, index, _ in self._seen if kind is not ImageKind.PARTIAL}

    def _request(self) -> BaseModel:
        try:
            return self._definition.request.model_validate(self._task.request)
        except ValidationError as exc:
            # Stored by an older version with other rules.
            transport = Transport(self._task.transport or Transport.NOT_SENT)
            raise InvalidRequestError(
                f"The stored request no longer fits this version's rules for {self._definition.title}: {exc}",
                transport=transport,
                billed=False if transport is Transport.NOT_SENT else None,
            ) from exc

    async def _resume(self) -> Submission | None:
        """The submission to go on watching; None when nothing has been posted yet."""
        task = self._task
        if task.status is TaskStatus.QUEUED:
            return None
        if task.submission is not None:
            if self._provider.capabilities.resumable:
                return SUBMISSION.validate_python(task.submission)
            raise OutcomeUnknownError(
                f"This server stopped while {self._definition.title} was generating, and that answer cannot be opened "
                "again. The generation was probably finished and billed. It is not sent again on its own; start a new "
                "task if you want another one.",
                transport=Transport.ACCEPTED,
                request_id=SUBMISSION.validate_python(task.submission).request_id,
            )
        found = await self._provider.find(task.id)
        if found is None:
            raise OutcomeUnknownError(
                f"This server stopped while the request was on its way to {self._definition.title}, which offers no "
                "way to find out whether it arrived. It may have been billed. It is not sent again on its own; look "
                "at the provider's usage page before you start a new task.",
                transport=Transport.PERHAPS_SENT,
            )
        await self._accept(found)
        return found

    async def _take(self, event: ProviderEvent) -> None:
        match event:
            case Accepted(submission):
                await self._accept(submission)
            case Progress(fraction, origin, message):
                progress = Progressed(fraction, origin, message)
                await self._record(progress, progress=dataclasses.asdict(progress))
            case PartialImage(index, partial_image_index, data):
                await self._keep_partial(index, partial_image_index, data)
            case FinalImage():
                await self._keep_finished(event)
            case Usage():
                usage = UsageReported(event.input_tokens, event.output_tokens, event.total_tokens, dict(event.reported))
                await self._record(usage, usage=dataclasses.asdict(usage))
            case Notice(message, parameter):
                await self._note(NoticeGiven(message, parameter))

    async def _accept(self, submission: Submission) -> None:
        if self._task.status is TaskStatus.RUNNING:
            return
        await self._record(
            StatusChanged(TaskStatus.RUNNING),
            status=TaskStatus.RUNNING,
            transport=Transport.ACCEPTED.value,
            submission=SUBMISSION.dump_python(submission, mode="json"),
            accepted_at=now(),
        )

    async def _note(self, notice: NoticeGiven) -> None:
        await self._record(notice, notices=[*self._task.notices, dataclasses.asdict(notice)])

    async def _keep_partial(self, index: int, partial_image_index: int, data: bytes) -> None:
        """Store and show an earlier stage. One that cannot be kept costs nothing, so the task goes on without it."""
        key = (ImageKind.PARTIAL, index, partial_image_index)
        if key in self._seen:
            return
        try:
            stored = await self._images.put(data)
        except StorageError as exc:
            await self._note(
                NoticeGiven(f"Partial image {partial_image_index} of picture {index} was lost. {exc}", None)
            )
            return
        image = image_record(self._task, stored, ImageKind.PARTIAL, index, partial_image_index=partial_image_index)
        making = self._images.begin_placeholder(image, data)
        await self._record(PartialImageReady(index, partial_image_index, image.id), image=image)
        keeping = asyncio.create_task(self._images.keep_placeholder(image.id, making))
        self._placeholders.add(keeping)
        keeping.add_done_callback(self._placeholders.discard)
        self._seen.add(key)

    async def _keep_finished(self, final: FinalImage) -> None:
        """Store and show a picture that is finished. It must be whole before anybody is told.

        One that cannot be kept makes the task fail in the end, after the others have been kept.
        """
        kind = ImageKind.PREVIEW if final.preview else ImageKind.FINAL
        key = (kind, final.index, -1)
        if key in self._seen:
            return
        try:
            stored = await self._images.put(final.data)
            placeholder = await self._images.placeholder(final.data, stored.measured.format)
        except StorageError as exc:
            self._broken = self._broken or exc
            return
        image = image_record(
            self._task, stored, kind, final.index, placeholder=placeholder, provider_image_id=final.provider_image_id
        )
        values = {} if self._task.effective else {"effective": dataclasses.asdict(final.effective)}
        await self._record(ImageReady(final.index, image.id), image=image, **values)
        self._seen.add(key)

    async def _finish(self) -> None:
        if self._finished:
            await self._record(Succeeded(), status=TaskStatus.SUCCEEDED, finished_at=now())
        elif not self._provider.capabilities.delivers_images:
            await self._record(HandedOff(), status=TaskStatus.HANDED_OFF, finished_at=now())
        else:
            message = f"{self._definition.title} reported success, but delivered no picture."
            await self._fail(self._own_failure(FailureCode.BAD_RESPONSE, message))

    async def _fail(self, failure: Failure) -> None:
        await self._record(Failed(failure), **failed(failure))

    def _own_failure(self, code: FailureCode, message: str) -> Failure:
        transport = Transport(self._task.transport or Transport.NOT_SENT)
        billed = {Transport.NOT_SENT: False, Transport.PERHAPS_SENT: None, Transport.ACCEPTED: True}[transport]
        return Failure(code=code, message=message, retryable=False, billed=billed, transport=transport)

    async def _record(self, change: Change, *, image: ImageRecord | None = None, **values: object) -> None:
        self._task = await self._journal.append(self._task, change, image=image, **values)

    async def _load_seen(self) -> None:
        for image in (await self._history.images_of([self._task.id]))[self._task.id]:
            self._seen.add((image.kind, image.index, image.partial_image_index))
