"""Watching a task: the stored events first, then live ones, without a gap and without a repeat, until the last."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from tasks.events import TaskEvent
from tasks.feed import Feed
from tasks.history import History
from tasks.patience import patiently

SAFETY_SECONDS = 15.0
"""How long to trust the silence of the feed before looking into the log."""


async def watch(
    feed: Feed, history: History, task_id: str, after: int = 0, *, read_at: int | None = None
) -> AsyncGenerator[TaskEvent, None]:
    """The events of a task with a sequence above `after`. Ends after the terminal one.

    Whoever has just read the log as far as `after`, of a task that has not ended, says what `feed.mark` was before that
    (`read_at`): where there has been no news since, the log is not read once more.

    Listening starts before the log is read, so nothing that is committed in between is missed; what is then seen
    twice is recognised by its sequence. The log decides: a hole in what the feed offers sends the reader back to it.
    """
    last = max(after, 0)
    with feed.subscribe(task_id) as subscription:
        up_to_date = read_at is not None and feed.quiet_since(task_id, read_at)
        while True:
            if not up_to_date:
                # A database that is away is no news for a subscriber; it just takes longer.
                task, events = await patiently(partial(history.events, task_id, last))
                for event in events:
                    yield event
                    last = event.sequence
                if task is None or task.status.terminal:
                    return
            up_to_date = False
            while live := await subscription.next(SAFETY_SECONDS):
                for event in live:
                    if event.sequence == last + 1:
                        yield event
                        last = event.sequence
                if live[-1].task.status.terminal and last == live[-1].sequence:
                    return
                if live[-1].sequence > last:
                    break
