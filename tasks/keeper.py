"""Keeping what a provider says: every event of it becomes a change of the task, every picture a file and a row.

Everything is recorded in the order in which it was said, and a picture is stored before it is announced. Once the task
has ended for its readers (it was canceled, or another run has taken it over), only pictures are kept, marked as late.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from providers.contract import (
    Accepted,
    FinalImage,
    Notice,
    PartialImage,
    Progress,
    ProviderEvent,
    Submission,
    Usage,
)
from providers.errors import Transport
from tasks.arrivals import Arrival, Arrivals
from tasks.errors import LostTaskError, NotAnImageError, StorageError
from tasks.events import Change, ImageReady, NoticeGiven, PartialImageReady, Progressed, StatusChanged, UsageReported
from tasks.images import ImageStore, Stored, image_record
from tasks.journal import Journal
from tasks.patience import patiently
from tasks.records import ImageKind, ImageRecord, TaskRecord, now
from tasks.status import TaskStatus

log = logging.getLogger(__name__)

SUBMISSION: TypeAdapter[Submission] = TypeAdapter(Submission)


class Keeper:
    """Writes down one run of one task. `task` is its row as this run last saw it.

    `arrivals` is None where the provider can be asked for its pictures again.
    """

    def __init__(
        self,
        task: TaskRecord,
        journal: Journal,
        images: ImageStore,
        *,
        arrivals: Arrivals | None,
        storage_patience: float,
    ) -> None:
        self.task = task
        self.broken: StorageError | None = None
        """Why a finished picture could not be kept, if one could not."""
        self.accepted = asyncio.Event()
        """Set when the provider has taken the task."""
        self._journal = journal
        self._images = images
        self._arrivals = arrivals
        self._storage_patience = storage_patience
        self._seen: set[tuple[ImageKind, int, int]] = set()
        self._placeholders: set[asyncio.Task[None]] = set()
        self._recording = asyncio.Lock()
        self._noted: list[Arrival] = []
        self.late = task.status.terminal
        """Whether the task has ended for its readers, so that only pictures are kept."""

    @property
    def finished(self) -> set[int]:
        """Which pictures have arrived, in full or as a preview."""
        return {index for kind, index, _ in self._seen if kind is not ImageKind.PARTIAL}

    async def record(self, change: Change, *, image: ImageRecord | None = None, **values: Any) -> None:
        """Record a change; see `Journal.append`."""
        async with self._recording:
            self.task = await self._journal.append(self.task, change, image=image, **values)

    async def begin(self, images: list[ImageRecord]) -> None:
        """Take note of what earlier runs have kept, and adopt what they stored without living to announce it."""
        self._seen.update(_key(image) for image in images if self.late or not image.late)
        for image in images:
            if _key(image) not in self._seen:
                # An earlier run kept it after it had lost the task, and could not tell anybody.
                await self._announce(image.model_copy(update={"late": False}))
        if self._arrivals is None or self.task.submitted_at is None:
            return
        self._noted = await self._arrived(self._arrivals)
        for arrival in self._noted:
            if arrival.key not in self._seen:
                log.info("Task %s: picture %d had arrived before a crash, and is adopted", self.task.id, arrival.index)
                await self._show(arrival)

    async def end(self) -> None:
        """Wait for what is still being made, and tidy up. What could not be recorded keeps its note: the next run, or
        a repair, adopts it."""
        await asyncio.gather(*self._placeholders)
        recorded = [arrival for arrival in self._noted if arrival.key in self._seen]
        if self._arrivals is not None and recorded:
            await self._arrivals.forget(self.task.id, recorded)

    async def take(self, event: ProviderEvent) -> None:
        """Keep what the provider said."""
        if self.late:
            await self._take_late(event)
            return
        try:
            await self._take(event)
        except LostTaskError:
            if self._arrivals is None and self.task.status is not TaskStatus.CANCELED:
                if isinstance(event, Accepted):
                    await self._journal.entrust(self.task, **_acceptance(event.submission))
                raise  # whoever owns it now goes on watching the same generation
            # It has just been canceled here, or it was given up and the answer can only be read here: what was paid for
            # is kept.
            self.late = True
            await self._take_late(event)

    async def rescue(self, finals: Sequence[FinalImage], *, record: bool) -> None:
        """Keep finished pictures that had been read when the run ended. All are stored before the first is recorded,
        which may have to wait; whatever is not recorded keeps its note, and is adopted."""
        stored = [final for final in finals if await self._store(final, patient=self.broken is None) is not None]
        for final in stored if record else ():
            await self.take(final)

    async def _take(self, event: ProviderEvent) -> None:
        match event:
            case Accepted(submission):
                await self.accept(submission)
            case Progress(fraction, origin, message):
                progress = Progressed(fraction, origin, message)
                await self.record(progress, progress=dataclasses.asdict(progress))
            case PartialImage(index, partial_image_index, data):
                await self._keep_partial(index, partial_image_index, data)
            case FinalImage():
                if (arrival := await self._store(event)) is not None:
                    await self._show(arrival)
            case Usage():
                usage = _usage(event)
                await self.record(usage, usage=dataclasses.asdict(usage))
            case Notice(message, parameter):
                await self.note(message, parameter)

    async def _take_late(self, event: ProviderEvent) -> None:
        match event:
            case Accepted(submission):
                self.accepted.set()
                await self._journal.settle(self.task, **_acceptance(submission))
                if self._arrivals is None:
                    await self._journal.entrust(self.task, **_acceptance(submission))
            case FinalImage():
                if (arrival := await self._store(event)) is not None:
                    await self._show(arrival)
            case Usage():
                await self._journal.settle(self.task, usage=dataclasses.asdict(_usage(event)))

    async def accept(self, submission: Submission) -> None:
        """The provider has it; saying so twice changes nothing."""
        if self.task.status is not TaskStatus.RUNNING:
            await self.record(
                StatusChanged(TaskStatus.RUNNING),
                status=TaskStatus.RUNNING,
                listening=False,
                **_acceptance(submission),
            )
        self.accepted.set()

    async def note(self, message: str, parameter: str | None = None) -> None:
        """Tell whoever asked for the task something worth knowing."""
        notice = NoticeGiven(message, parameter)
        await self.record(notice, notices=[*self.task.notices, dataclasses.asdict(notice)])

    async def _keep_partial(self, index: int, partial_image_index: int, data: bytes) -> None:
        """Store and show an earlier stage. One that cannot be kept costs nothing, so the task goes on without it."""
        key = (ImageKind.PARTIAL, index, partial_image_index)
        if key in self._seen:
            return
        try:
            stored = await self._images.put(data)
        except StorageError as exc:
            await self.note(f"Partial image {partial_image_index} of picture {index} was lost. {exc}")
            return
        image = image_record(self.task, stored, ImageKind.PARTIAL, index, partial_image_index=partial_image_index)
        making = self._images.begin_placeholder(image, data)
        await self.record(PartialImageReady(index, partial_image_index, image.id), image=image)
        keeping = asyncio.create_task(self._images.keep_placeholder(image.id, making))
        self._placeholders.add(keeping)
        keeping.add_done_callback(self._placeholders.discard)
        self._seen.add(key)

    async def _store(self, final: FinalImage, *, patient: bool = True) -> Arrival | None:
        """Store a picture that is finished; None for one that is here already, or that cannot be kept. It is `patient`
        where nobody has waited for the store yet.

        The latter makes the task fail in the end, after the others have been kept.
        """
        kind = ImageKind.PREVIEW if final.preview else ImageKind.FINAL
        if (kind, final.index, -1) in self._seen:
            return None
        try:
            stored = await self._put(final.data, self._storage_patience if patient else 0)
            placeholder = await self._images.placeholder(final.data, stored.measured.format)
        except StorageError as exc:
            self.broken = self.broken or exc
            return None
        arrival = Arrival(kind, final.index, stored, placeholder, final.provider_image_id, final.effective)
        if self._arrivals is not None:
            self._noted.append(arrival)
            await self._arrivals.note(self.task.id, arrival)
        return arrival

    async def _arrived(self, arrivals: Arrivals) -> list[Arrival]:
        """What an earlier run stored; a store that fails is given time to recover."""
        return await patiently(lambda: arrivals.of(self.task.id), StorageError, self._storage_patience)

    async def _put(self, data: bytes, seconds: float) -> Stored:
        """Store what was paid for; a store that fails is given time to recover."""
        return await patiently(lambda: self._images.put(data), StorageError, seconds, but_not=(NotAnImageError,))

    async def _show(self, arrival: Arrival) -> None:
        """Record a finished picture. It is whole and stored before anybody is told."""
        image = arrival.image(self.task)
        if self.late:
            await self._journal.keep_late(image)
            self._seen.add(arrival.key)
            return
        values = {} if self.task.effective else {"effective": dataclasses.asdict(arrival.effective)}
        await self._announce(image, **values)

    async def _announce(self, image: ImageRecord, **values: Any) -> None:
        await self.record(ImageReady(image.index, image.id), image=image, **values)
        self._seen.add(_key(image))


def _key(image: ImageRecord) -> tuple[ImageKind, int, int]:
    return image.kind, image.index, image.partial_image_index


def _acceptance(submission: Submission) -> dict[str, Any]:
    return {
        "transport": Transport.ACCEPTED.value,
        "submission": SUBMISSION.dump_python(submission, mode="json"),
        "accepted_at": now(),
    }


def _usage(event: Usage) -> UsageReported:
    return UsageReported(event.input_tokens, event.output_tokens, event.total_tokens, dict(event.reported))
