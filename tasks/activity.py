"""What happens to all tasks, for whoever watches many of them at once.

The event log is read from its end by one reader per node, as long as anybody follows. Each follower gets what it wants
to see, at the rate it wants it: of a task that changed several times in between, every change of its state is told, and
of progress and pictures only the newest. So a follower that is slow costs memory for the tasks that changed, not for
how often they did.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial

from tasks.activity_log import PAGE, ActivityLog, LoggedEvent, Position
from tasks.counts import Counts, Recount, TaskCounts
from tasks.events import PartialImageReady, Progressed, TaskEvent
from tasks.feed import Feed
from tasks.history import TaskFilter, matches
from tasks.patience import patiently
from tasks.records import TaskRecord

log = logging.getLogger(__name__)

MOST_TASKS = 10_000
"""Tasks with news that a follower holds. One with more begins anew, and is told so."""
MOST_PAGES = 40
"""How far back in the log somebody can resume; further back, looking at the history is quicker."""
SETTLING_SECONDS = 0.05
"""How soon to look again after something was committed that an older transaction still hides (PostgreSQL)."""
SAFETY_SECONDS = 5.0
"""How long to trust the silence before looking into the log."""


@dataclass(frozen=True, slots=True)
class Started:
    """Everything up to `position` is what the history shows; what follows are changes. `complete` is False when changes
    were left out, so that whoever follows should look at the history anew."""

    position: Position
    complete: bool


@dataclass(frozen=True, slots=True)
class TaskChanged:
    """News of one task: its row as it is now, and the events worth telling, in order; `missed` is how many were left
    out because a newer one takes their place, or because they cannot be read."""

    position: Position
    task: TaskRecord
    events: Sequence[TaskEvent]
    missed: int


@dataclass(frozen=True, slots=True)
class Counted:
    """How many tasks there are in each state."""

    position: Position
    counts: TaskCounts


Activity = Started | TaskChanged | Counted


@dataclass(slots=True)
class _News:
    """What a follower has not been told yet about one task; all of it is after `before`."""

    task: TaskRecord
    before: Position
    events: list[TaskEvent] = field(default_factory=list)
    missed: int = 0

    def add(self, event: TaskEvent | None) -> None:
        """A newer report takes the place of an older one of its kind; a change of state takes the place of nothing.
        None is an event that cannot be read."""
        if event is None:
            self.missed += 1
            return
        self.task = event.task
        if isinstance(event.change, Progressed | PartialImageReady):
            kept = [one for one in self.events if type(one.change) is not type(event.change)]
            self.missed += len(self.events) - len(kept)
            self.events = kept
        self.events.append(event)


class Follower:
    """What one follower has still to be told."""

    def __init__(self, filter: TaskFilter, seen: Position) -> None:
        self.arrived = asyncio.Event()
        self.seen = seen
        self._filter = filter
        self._news: dict[str, _News] = {}
        self._overrun = False
        self._error: Exception | None = None

    def offer(self, logged: Iterable[LoggedEvent]) -> None:
        """Take what has been read from the log, in its order."""
        for one in logged:
            if one.position <= self.seen:
                continue
            before, self.seen = self.seen, one.position
            if matches(self._filter, one.task, one.states):
                self._news.setdefault(one.task.id, _News(one.task, before)).add(one.event)
                self.arrived.set()
        if len(self._news) > MOST_TASKS:
            self._news.clear()
            self._overrun = True

    def put_before(self, earlier: Follower) -> None:
        """Take over what somebody else was offered who began earlier, before what has come since."""
        for task_id, news in self._news.items():
            whole = earlier._news.setdefault(task_id, _News(news.task, news.before))
            whole.task = news.task
            whole.missed += news.missed
            for event in news.events:
                whole.add(event)
        self._news = earlier._news
        self._overrun = self._overrun or earlier._overrun
        if self._news or self._overrun:
            self.arrived.set()

    def fail(self, error: Exception) -> None:
        """There will be no more news, for this reason."""
        self._error = error
        self.arrived.set()

    def take(self) -> list[_News] | None:
        """The news since the last time, in the order of the first of each task; None when there were too many. Raises
        what it failed with."""
        if self._error is not None:
            raise self._error
        self.arrived.clear()
        news, self._news = list(self._news.values()), {}
        if self._overrun:
            self._overrun = False
            return None
        return news


def changes_of(news: Sequence[_News], position: Position) -> list[TaskChanged]:
    """The news up to a position. With each of them everything has been told that lies before the first event of the
    next one."""
    told = [one.before for one in news[1:]] + [position]
    return [TaskChanged(at, one.task, one.events, one.missed) for at, one in zip(told, news, strict=False)]


class Activities:
    """Everybody who follows the tasks of a project on this node."""

    def __init__(self, log: ActivityLog, feed: Feed, counts: Counts) -> None:
        self._log = log
        self._feed = feed
        self._counts = counts
        self._followers: set[Follower] = set()
        self._tail: asyncio.Task[None] | None = None
        self._at: Position | None = None
        self._starting = asyncio.Lock()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._followers)

    async def follow(
        self, filter: TaskFilter, after: Position | None, per_second: float
    ) -> AsyncGenerator[Activity, None]:
        """What happens to the tasks that match, `after` a position, or from now on; of each task at most `per_second`
        times a second. Without an end; close it with `aclosing`.

        It is safe to resume from the position of whatever came last: everything up to it has been told. Every change
        has a later one than the change before, so whoever is cut off again and again comes forward all the same.
        Raises `DatabaseUnavailableError` when the log has not been readable for long.
        """
        follower = await self._join(filter)
        try:
            here = follower.seen
            complete = after is None
            if after is not None and (behind := await self._behind(filter, after, here)) is not None:
                # What has been read from the end meanwhile has waited in the follower.
                follower.put_before(behind)
                complete = True
            told = after if after is not None and complete else here
            yield Started(told, complete)
            async with aclosing(self._tell(follower, filter, told, 1 / per_second)) as activities:
                async for activity in activities:
                    yield activity
        finally:
            self._leave(follower)

    async def missed(self, filter: TaskFilter, after: Position) -> Sequence[Started | TaskChanged]:
        """What somebody has missed who comes back from a position, and goes on with what a follower with the same
        filter is told from this moment on: all there is up to here, some of which that one may still be told.

        Raises `DatabaseUnavailableError` when the log has not been readable for long.
        """
        # What a follower has been told by now is not after what has been read by now.
        here = self._at
        if here is None:
            here = await patiently(self._log.end)
        behind = await self._behind(filter, after, here)
        news = None if behind is None else behind.take()
        if behind is None or news is None:
            return [Started(here, complete=False)]
        return [Started(after, complete=True), *changes_of(news, behind.seen)]

    async def _tell(
        self, follower: Follower, filter: TaskFilter, told: Position, pause: float
    ) -> AsyncGenerator[Activity, None]:
        loop = asyncio.get_running_loop()
        recount = Recount()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(recount.due):
                    await follower.arrived.wait()
            began, position, news = loop.time(), follower.seen, follower.take()
            if news is None:
                told, news = position, []
                recount.change()
                yield Started(told, complete=False)
            if news:
                recount.change()
            # The counts come behind the first change: whoever is cut off after two messages comes forward, too.
            changes: list[TaskChanged | None] = [*changes_of(news, position)]
            for change in changes or [None]:
                if change is not None:
                    told = change.position
                    yield change
                if recount.due is not None and (at := loop.time()) >= recount.due:
                    counts = await patiently(partial(self._counts.of, filter))
                    if recount.counted(at, counts):
                        yield Counted(told, counts)
            if news:
                await asyncio.sleep(max(began + pause - loop.time(), 0))

    async def _join(self, filter: TaskFilter) -> Follower:
        async with self._starting:
            if self._tail is None or self._at is None:
                self._at = await patiently(self._log.end)
                self._tail = asyncio.create_task(self._read(), name="activity")
            follower = Follower(filter, self._at)
            self._followers.add(follower)
        return follower

    def _leave(self, follower: Follower) -> None:
        self._followers.discard(follower)
        if not self._followers and self._tail is not None:
            self._tail.cancel()
            self._tail = self._at = None

    async def _behind(self, filter: TaskFilter, after: Position, here: Position) -> Follower | None:
        """Somebody who has been offered what lies between; None when that is too much, or when `after` comes from
        another log, or from before a back-up was restored.

        Whoever comes from another node may be further than this one has read: there is nothing between, and it is told
        some again.
        """
        if not await patiently(partial(self._log.holds, after)):
            return None
        behind = Follower(filter, after)
        for _ in range(MOST_PAGES):
            page = await patiently(partial(self._log.after, behind.seen))
            behind.offer(one for one in page if one.position <= here)
            if len(page) < PAGE or page[-1].position >= here:
                return behind
        return None

    async def _read(self) -> None:
        """Read the log for as long as anybody follows. What keeps this from going on ends it for everybody who is
        there: they know where they are, and can come back."""
        try:
            await self._read_on()
        except Exception as exc:
            log.exception("The log of all tasks cannot be read; %d who follow it are sent away", len(self._followers))
            self._tail = self._at = None
            for follower in self._followers:
                follower.fail(exc)

    async def _read_on(self) -> None:
        """Read the end of the log, and offer it to everybody."""
        with self._feed.everything() as news:
            quiet = SAFETY_SECONDS
            while True:
                news.clear()
                page = await patiently(partial(self._log.after, self._at or Position(0, 0)))
                if page:
                    self._at = page[-1].position
                    for follower in self._followers:
                        follower.offer(page)
                    quiet = SETTLING_SECONDS
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(quiet):
                        await news.wait()
                quiet = SETTLING_SECONDS if news.is_set() else min(quiet * 2, SAFETY_SECONDS)
