"""`TaskEvent` and its kinds: what `taskEvents` sends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import strawberry

from graph.enums import TaskStatus
from graph.ids import encode
from graph.types.cancellation import Cancellation, cancellation_of
from graph.types.failure import Failure, failure_of
from graph.types.image import Image, image_of
from graph.types.task import Notice, Progress, Task, Usage, notice_of, progress_of, task_of, usage_of
from tasks import events


@strawberry.interface(
    description="Something that happened to a task. Sequences start at 1 and have no gap, so a client that reconnects "
    "passes the last one it saw as `after`, and drops what it has seen before. New kinds may be added."
)
class TaskEvent:
    """One line of the event log."""

    id: strawberry.ID = strawberry.field(description="The same whenever and wherever this event is delivered.")
    sequence: int = strawberry.field(description="Its place in the log of its task.")
    at: datetime = strawberry.field(description="When it happened.")
    task: Task = strawberry.field(
        description="The task: as it was right after a live event, as it is now for one that is replayed."
    )


@strawberry.type(description="The task has moved on.")
class TaskStatusChanged(TaskEvent):
    """Every state but the last."""

    status: TaskStatus = strawberry.field(description="The state it moved to.")


@strawberry.type(description="How far the task is.")
class TaskProgressed(TaskEvent):
    """A progress report."""

    progress: Progress = strawberry.field(description="The report.")


@strawberry.type(description="An earlier stage of a picture can be looked at.")
class PartialImageReady(TaskEvent):
    """A stored partial image."""

    index: int = strawberry.field(description="Which picture of the task, from 0.")
    partial_image_index: int = strawberry.field(description="Which stage of that picture, from 0.")
    image: Image = strawberry.field(description="The picture as it was at that stage.")


@strawberry.type(description="A picture is finished.")
class ImageReady(TaskEvent):
    """A stored final image."""

    index: int = strawberry.field(description="Which picture of the task, from 0.")
    image: Image = strawberry.field(description="The picture.")


@strawberry.type(description="The provider has said what it counted.")
class UsageReported(TaskEvent):
    """Usage as reported."""

    usage: Usage = strawberry.field(description="The count.")


@strawberry.type(description="Something worth knowing that is no failure.")
class NoticeGiven(TaskEvent):
    """A remark."""

    notice: Notice = strawberry.field(description="The remark.")


@strawberry.type(description="Every picture has arrived and is stored. The last event of a task.")
class TaskSucceeded(TaskEvent):
    """The good end."""


@strawberry.type(description="The task ended without all its pictures. The last event of a task.")
class TaskFailed(TaskEvent):
    """The bad end."""

    failure: Failure = strawberry.field(description="Why.")


@strawberry.type(
    description="The provider turned the request away before anything was made, as it does with too many of them. It "
    "is sent again."
)
class TaskRetryScheduled(TaskEvent):
    """Another attempt."""

    attempt: int = strawberry.field(description="The number of the next attempt; the first one was 1.")
    retry_at: datetime = strawberry.field(description="When it is sent again.")
    failure: Failure = strawberry.field(description="Why it was turned away.")


@strawberry.type(
    description="Somebody wants a task to be canceled that was on its way already. `TaskCanceled` follows, or another "
    "end where it was too late."
)
class TaskCancelRequested(TaskEvent):
    """A wish."""


@strawberry.type(description="The task was canceled. The last event of a task.")
class TaskCanceled(TaskEvent):
    """The end that somebody wanted."""

    cancellation: Cancellation = strawberry.field(description="What that achieved.")


@strawberry.type(
    description="The provider has accepted it, but documents no way to fetch the result. The last event of a task."
)
class TaskHandedOff(TaskEvent):
    """The open end."""

    provider_task_id: str | None = strawberry.field(description="The provider's own id of it.")


@strawberry.type(
    description="You read more slowly than pictures arrived, so some events about pictures were left out. Everything "
    "else was sent. Its `sequence` is that of the last one left out, so `after` works as always; pass `resumeAfter` "
    "instead to get what was left out. It is not part of the log."
)
class EventsSkipped(TaskEvent):
    """Stands for what a slow reader missed."""

    missed: int = strawberry.field(description="How many events were left out.")
    resume_after: int = strawberry.field(description="The sequence of the last event before them.")


EVENT_TYPES = (
    TaskStatusChanged,
    TaskProgressed,
    PartialImageReady,
    ImageReady,
    UsageReported,
    NoticeGiven,
    TaskSucceeded,
    TaskFailed,
    TaskRetryScheduled,
    TaskCancelRequested,
    TaskCanceled,
    TaskHandedOff,
    EventsSkipped,
)


def skipped(last: TaskEvent, missed: int, resume_after: int) -> EventsSkipped:
    """What stands for `missed` events, `last` being the last of them."""
    return EventsSkipped(
        id=strawberry.ID(encode("EventsSkipped", f"{last.task.record.id}/{resume_after}/{last.sequence}")),
        sequence=last.sequence,
        at=last.at,
        task=last.task,
        missed=missed,
        resume_after=resume_after,
    )


def event_of(event: events.TaskEvent) -> TaskEvent:
    """The schema's view of an event."""
    task = task_of(event.task)
    common: dict[str, Any] = {
        "id": strawberry.ID(encode("TaskEvent", f"{event.task.id}/{event.sequence}")),
        "sequence": event.sequence,
        "at": event.at,
        "task": task,
    }
    make: Callable[..., TaskEvent]
    make, fields = _kind_of(event, task)
    return make(**common, **fields)


def _kind_of(event: events.TaskEvent, task: Task) -> tuple[Callable[..., TaskEvent], dict[str, object]]:
    match event.change:
        case events.StatusChanged(status):
            return TaskStatusChanged, {"status": status}
        case events.Progressed() as found:
            return TaskProgressed, {"progress": progress_of(found)}
        case events.PartialImageReady(index, partial_image_index, _):
            place = {"index": index, "partial_image_index": partial_image_index}
            return PartialImageReady, {**place, "image": _image(event)}
        case events.ImageReady(index, _):
            return ImageReady, {"index": index, "image": _image(event)}
        case events.UsageReported() as found:
            return UsageReported, {"usage": usage_of(found)}
        case events.NoticeGiven() as found:
            return NoticeGiven, {"notice": notice_of(found)}
        case events.Succeeded():
            return TaskSucceeded, {}
        case events.Failed(failure):
            return TaskFailed, {"failure": failure_of(failure)}
        case events.RetryScheduled(attempt, at, failure):
            return TaskRetryScheduled, {"attempt": attempt, "retry_at": at, "failure": failure_of(failure)}
        case events.CancelRequested():
            return TaskCancelRequested, {}
        case events.Canceled(cancellation):
            return TaskCanceled, {"cancellation": cancellation_of(cancellation)}
        case events.HandedOff():
            return TaskHandedOff, {"provider_task_id": task.provider_task_id}


def _image(event: events.TaskEvent) -> Image:
    if event.image is None:
        raise LookupError(f"event {event.sequence} of task {event.task.id} names a picture that is not stored")
    return image_of(event.image)
