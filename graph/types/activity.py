"""`ActivityEvent` and its kinds: what `activity` sends."""

from __future__ import annotations

import strawberry

from graph.enums import TaskStatus
from graph.types.events import TaskEvent, event_of
from graph.types.task import Task, task_of
from tasks import activity
from tasks.counts import TaskCounts


@strawberry.interface(description="Something that happened to the tasks of this server. New kinds may be added.")
class ActivityEvent:
    """One message of a dashboard's feed."""

    cursor: str = strawberry.field(
        description="Pass the newest one as `after` when you come back: nothing is missed, and what is told twice is "
        "recognised by the ids of its events."
    )


@strawberry.type(
    description="The first event. Everything up to `cursor` is what `tasks` shows; what follows are changes. It comes "
    "again when changes had to be left out."
)
class ActivityStarted(ActivityEvent):
    """A marker."""

    complete: bool = strawberry.field(
        description="False when changes were left out, because they reached too far back, because you read too slowly, "
        "or because the server has been restored from a back-up meanwhile: load the tasks anew."
    )


@strawberry.type(
    description="A task has changed. Changes of one task are collected for as long as `maxPerSecond` asks for."
)
class TaskChanged(ActivityEvent):
    """News of one task."""

    task: Task = strawberry.field(description="The task as it is now.")
    events: list[TaskEvent] = strawberry.field(
        description="What happened, in order: every change of its state, and of progress reports and partial images "
        "the newest."
    )
    missed: int = strawberry.field(
        description="How many of its events were left out: for a newer one of their kind, or because they cannot be "
        "read."
    )


@strawberry.type(description="How many tasks are in a state.")
class StatusCount:
    """A line of the counts."""

    status: TaskStatus = strawberry.field(description="The state.")
    count: int = strawberry.field(description="How many tasks are in it.")


@strawberry.type(
    description="How many tasks there are in each state. Comes at most every two seconds; on a quiet server when tasks "
    "that have ended are no longer counted, within about a minute."
)
class ActivityCounted(ActivityEvent):
    """The counters of a dashboard."""

    counts: list[StatusCount] = strawberry.field(
        description="Every state: all tasks that have not ended, and those that have ended in the last hour."
    )
    median_wait: float | None = strawberry.field(
        description="How many seconds half of those that have been sent waited in the queue at most; null where none "
        "has been sent."
    )


ACTIVITY_TYPES = (ActivityStarted, TaskChanged, ActivityCounted)


def activity_of(found: activity.Activity) -> ActivityEvent:
    """The schema's view of what happened."""
    cursor = found.position.cursor
    match found:
        case activity.Started(_, complete):
            return ActivityStarted(cursor=cursor, complete=complete)
        case activity.TaskChanged(_, task, events, missed):
            return TaskChanged(
                cursor=cursor, task=task_of(task), events=[event_of(one) for one in events], missed=missed
            )
        case activity.Counted(_, counts):
            return ActivityCounted(cursor=cursor, counts=_lines(counts), median_wait=counts.median_wait)


def _lines(counts: TaskCounts) -> list[StatusCount]:
    return [StatusCount(status=status, count=counts.by_status[status]) for status in TaskStatus]
