"""Notes of finished pictures that are stored, but not yet recorded.

Between the two a server can die. Where the provider's answer cannot be opened again, the note is what lets the next run
show the picture all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import TypeAdapter
from pydantic import ValidationError as BrokenNoteError

from providers.contract import Effective
from tasks.errors import StorageError
from tasks.images import ImageStore, Stored, image_record
from tasks.records import ImageKind, ImageRecord, TaskRecord, new_id

log = logging.getLogger(__name__)

FOLDER = "arrivals"
ID_LENGTH = len(new_id())


@dataclass(frozen=True, slots=True)
class Arrival:
    """A finished picture that is in the store."""

    kind: ImageKind
    index: int
    stored: Stored
    placeholder: str | None
    provider_image_id: str | None
    effective: Effective

    @property
    def key(self) -> tuple[ImageKind, int, int]:
        """Which picture of its task it is. The last number is that of an earlier stage, which it is not."""
        return self.kind, self.index, -1

    def image(self, task: TaskRecord) -> ImageRecord:
        """Its row, which is not in the table yet."""
        return image_record(
            task,
            self.stored,
            self.kind,
            self.index,
            placeholder=self.placeholder,
            provider_image_id=self.provider_image_id,
        )


ARRIVAL: TypeAdapter[Arrival] = TypeAdapter(Arrival)


class Arrivals:
    """The notes, in the image store, under the id of their task."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images

    async def note(self, task_id: str, arrival: Arrival) -> None:
        """Leave a note. Failing to do so is no reason to stop: it is only needed after a crash."""
        try:
            await self._images.keep(_key(task_id, arrival), ARRIVAL.dump_json(arrival))
        except StorageError as exc:
            log.warning("Task %s: no note of picture %d could be left: %s", task_id, arrival.index, exc)

    async def of(self, task_id: str) -> list[Arrival]:
        """What has arrived for a task, as far as the notes tell. Raises `StorageError`."""
        return await self._read(task_id)

    async def noted(self) -> list[Arrival]:
        """What has arrived for whatever task, and is perhaps not recorded yet. Raises `StorageError`."""
        return await self._read(None)

    async def _read(self, task_id: str | None) -> list[Arrival]:
        found = []
        for key in await self._images.keys(FOLDER):
            if task_id is not None and task_id_in(key) != task_id:
                continue
            try:
                found.append(ARRIVAL.validate_json(await self._images.kept(key)))
            except BrokenNoteError as exc:
                log.warning("The note %s cannot be read: %s", key, exc)
        return sorted(found, key=lambda arrival: arrival.index)

    async def forget(self, task_id: str, arrivals: Iterable[Arrival]) -> None:
        """Remove the notes of what has been recorded."""
        try:
            await self._images.forget([_key(task_id, arrival) for arrival in arrivals])
        except StorageError as exc:
            log.warning("The notes of task %s could not be removed: %s", task_id, exc)


def _key(task_id: str, arrival: Arrival) -> str:
    # Not in a folder of its own: nobody would delete that.
    return f"{FOLDER}/{task_id}.{arrival.kind.value}-{arrival.index}"


def task_id_in(key: str) -> str:
    """The task that the note under this key is about."""
    return key.removeprefix(f"{FOLDER}/")[:ID_LENGTH]
