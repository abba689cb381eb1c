"""Live delivery inside one process: who is told when an event has been committed.

A subscription holds a bounded number of events. When its reader is too slow it forgets them and says so, and the
reader goes on from the log, which has everything; so a slow reader costs memory for at most `BACKLOG` small objects,
and never slows the task or the other readers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.events import TaskEvent

BACKLOG = 64
"""Most events a subscription holds for a reader that is busy."""
RECENT = 1024
"""How many tasks' news are remembered, for those who look into the log before they listen."""


class Subscription:
    """The events of one task since the reader last looked."""

    def __init__(self) -> None:
        self._events: deque[TaskEvent] = deque()
        self._news = asyncio.Event()
        self._overrun = False

    def offer(self, event: TaskEvent) -> None:
        """Take an event, or forget them all when the reader is too far behind."""
        if len(self._events) >= BACKLOG:
            self._events.clear()
            self._overrun = True
        if not self._overrun:
            self._events.append(event)
        self._news.set()

    def hint(self) -> None:
        """There is something new in the log that cannot be offered here, because another node wrote it."""
        self._events.clear()
        self._overrun = True
        self._news.set()

    async def next(self, seconds: float) -> list[TaskEvent]:
        """The events since the last call, in order; none when there was no news for that many seconds, or when some
        had to be forgotten. In both cases the log is the place to look."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return []
        self._news.clear()
        events = list(self._events)
        self._events.clear()
        if self._overrun:
            self._overrun = False
            return []
        return events


class Feed:
    """The subscriptions of this process, by task."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._everything: set[asyncio.Event] = set()
        self._recent: dict[str, int] = {}
        self._forgotten = 0
        self.mark = 0
        """Counts up with all news; see `quiet_since`."""

    @contextmanager
    def subscribe(self, task_id: str) -> Iterator[Subscription]:
        """Listen to a task until the block ends."""
        subscription = Subscription()
        self._subscriptions.setdefault(task_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            listeners = self._subscriptions[task_id]
            listeners.discard(subscription)
            if not listeners:
                del self._subscriptions[task_id]

    @contextmanager
    def everything(self) -> Iterator[asyncio.Event]:
        """Set whenever there may be a new event of any task, until the block ends."""
        news = asyncio.Event()
        self._everything.add(news)
        try:
            yield news
        finally:
            self._everything.discard(news)

    def publish(self, event: TaskEvent) -> None:
        """Tell whoever listens. Called after the event was committed, in the order of the log."""
        self._news_of(event.task.id)
        for subscription in self._subscriptions.get(event.task.id, ()):
            subscription.offer(event)

    def hint(self, task_id: str) -> None:
        """Send the listeners of a task to the log."""
        self._news_of(task_id)
        for subscription in self._subscriptions.get(task_id, ()):
            subscription.hint()

    def hint_all(self) -> None:
        """Send all listeners to the log: hints may have been lost."""
        for task_id in self._subscriptions:
            self.hint(task_id)
        for news in self._everything:
            news.set()
        self.mark += 1
        self._forgotten = self.mark

    def quiet_since(self, task_id: str, mark: int) -> bool:
        """Whether there was certainly no news of a task since `mark` had that value: what was read from the log after
        that is still all there is."""
        return self._recent.get(task_id, 0) <= mark and self._forgotten <= mark

    def _news_of(self, task_id: str) -> None:
        self.mark += 1
        self._recent.pop(task_id, None)
        self._recent[task_id] = self.mark
        if len(self._recent) > RECENT:
            self._forgotten = self._recent.pop(next(iter(self._recent)))
        for news in self._everything:
            news.set()

    @property
    def subscribers(self) -> int:
        """How many subscriptions are open."""
        return sum(map(len, self._subscriptions.values()))
