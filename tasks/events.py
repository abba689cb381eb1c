"""The events of a task: what can change, and how a change is written in the log.

A change is a small frozen object; in the log it is its `kind` and a JSON payload. A picture is referred to by its id,
so a payload is always small. The names are those of the schema's event types.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeAlias

from pydantic import JsonValue, TypeAdapter

from providers.contract import ProgressOrigin
from tasks.cancellation import Cancellation
from tasks.failure import Failure
from tasks.records import ImageRecord, JsonObject, TaskRecord
from tasks.status import TaskStatus


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The task moved on to a state that is not its last."""

    kind: ClassVar[str] = "status_changed"
    status: TaskStatus


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far it is: `fraction` is 0–1, or None where only the message is known."""

    kind: ClassVar[str] = "progressed"
    fraction: float | None
    origin: ProgressOrigin
    message: str | None


@dataclass(frozen=True, slots=True)
class PartialImageReady:
    """An earlier stage of picture `index` is stored."""

    kind: ClassVar[str] = "partial_image_ready"
    index: int
    partial_image_index: int
    image_id: str


@dataclass(frozen=True, slots=True)
class ImageReady:
    """Picture `index` is finished and stored."""

    kind: ClassVar[str] = "image_ready"
    index: int
    image_id: str


@dataclass(frozen=True, slots=True)
class UsageReported:
    """The provider said what it counted; unknown numbers are None."""

    kind: ClassVar[str] = "usage_reported"
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    reported: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class NoticeGiven:
    """Something worth knowing that is no failure."""

    kind: ClassVar[str] = "notice_given"
    message: str
    parameter: str | None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Every picture is stored."""

    kind: ClassVar[str] = "succeeded"


@dataclass(frozen=True, slots=True)
class Failed:
    """It ended without all its pictures."""

    kind: ClassVar[str] = "failed"
    failure: Failure


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """The request was turned away before anything was made; it is sent again at `at`, as attempt number `attempt`."""

    kind: ClassVar[str] = "retry_scheduled"
    attempt: int
    at: datetime
    failure: Failure


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody asked to cancel a task that was on its way already."""

    kind: ClassVar[str] = "cancel_requested"


@dataclass(frozen=True, slots=True)
class Canceled:
    """It was canceled."""

    kind: ClassVar[str] = "canceled"
    cancellation: Cancellation


@dataclass(frozen=True, slots=True)
class HandedOff:
    """The provider has it, and documents no way to fetch the result."""

    kind: ClassVar[str] = "handed_off"


Change: TypeAlias = (
    StatusChanged
    | Progressed
    | PartialImageReady
    | ImageReady
    | UsageReported
    | NoticeGiven
    | Succeeded
    | Failed
    | RetryScheduled
    | CancelRequested
    | Canceled
    | HandedOff
)

_CHANGES: tuple[type[Change], ...] = (
    StatusChanged,
    Progressed,
    PartialImageReady,
    ImageReady,
    UsageReported,
    NoticeGiven,
    Succeeded,
    Failed,
    RetryScheduled,
    CancelRequested,
    Canceled,
    HandedOff,
)
_ADAPTERS: dict[str, TypeAdapter[Change]] = {change.kind: TypeAdapter(change) for change in _CHANGES}


PROGRESSED: TypeAdapter[Progressed] = TypeAdapter(Progressed)
USAGE: TypeAdapter[UsageReported] = TypeAdapter(UsageReported)
NOTICES: TypeAdapter[list[NoticeGiven]] = TypeAdapter(list[NoticeGiven])
"""The newest progress and usage, and all notices, are also kept in the task's row, in the same form."""


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One change of one task, at its place in the log.

    `task` is the row as it was right after the change where the event is live, and as it is now where the event is
    replayed; `image` is set where the change is about a picture.
    """

    task: TaskRecord
    sequence: int
    at: datetime
    change: Change
    image: ImageRecord | None = None


def payload_of(change: Change) -> JsonObject:
    """The JSON that the log keeps of a change, next to its kind."""
    payload: JsonObject = _ADAPTERS[change.kind].dump_python(change, mode="json")
    return payload


def change_of(kind: str, payload: JsonObject) -> Change:
    """The change that a line of the log describes."""
    return _ADAPTERS[kind].validate_python(payload)


def image_id_of(change: Change) -> str | None:
    """The picture that a change is about, if it is about one."""
    return change.image_id if isinstance(change, PartialImageReady | ImageReady) else None
