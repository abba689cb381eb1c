"""What a subscription watches: stored events first, then live ones, each known by its sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """One event of a subscription.

    `value` is what the subscription's field resolves to. A `picture` may be passed over for a reader that is too slow;
    nothing comes after the `last` one. `cursor` is by what a client that comes back names it; without one, that is the
    sequence.
    """

    sequence: int
    value: object
    picture: bool = False
    last: bool = False
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Prelude:
    """What somebody gets by itself who comes back, numbered from 1; `then` is the sequence after which it goes on with
    the others."""

    events: Sequence[LiveEvent]
    then: int


class Source(ABC):
    """What the resolver of a subscription returns. Subscriptions with equal keys see the same events.

    `after` is where this subscriber begins, `newest` the sequence of the newest event there was when it was asked for,
    and `ended` whether nothing can come after that one.
    """

    __slots__ = ("after", "ended", "key", "newest")

    rereadable: ClassVar[bool] = True
    """Whether `stored` gives every event again, for a subscriber that has fallen far behind."""

    def __init__(self, key: Hashable, *, after: int, newest: int, ended: bool) -> None:
        self.key = key
        self.after = after
        self.newest = newest
        self.ended = ended

    @property
    def place(self) -> str | None:
        """Where somebody comes back to who gets a prelude; None where nobody does, because `after` says it all."""
        return None

    async def begun(self) -> None:
        """Wait until there have been live events, which is when there can be a prelude."""
        raise NotImplementedError("only whoever comes back to a place of its own gets a prelude")

    async def prelude(self, shared: Source) -> Prelude:
        """What comes first, for whoever comes back, where the others share another source."""
        raise NotImplementedError("only whoever comes back to a place of its own gets a prelude")

    @abstractmethod
    def resume(self, cursor: str) -> None:
        """Begin after the event with this cursor. One that means nothing here changes nothing."""

    def first(self) -> Sequence[LiveEvent]:
        """The next events above `after`, as far as they are known already. They are given away once."""
        return ()

    @abstractmethod
    def live(self, after: int) -> AsyncGenerator[LiveEvent, None]:
        """The events above a sequence, without a gap or a repeat, as they happen. Ends with the last one."""

    @abstractmethod
    async def stored(self, after: int) -> Sequence[LiveEvent]:
        """The events above a sequence that there are by now."""

    @abstractmethod
    def skipped(self, last: LiveEvent, missed: int, resume_after: int) -> LiveEvent:
        """What stands for `missed` events that a reader was too slow for, `last` being the last of them."""

    async def __aiter__(self) -> AsyncIterator[object]:
        """The values alone, for whoever knows nothing of groups."""
        events = self.live(self.after)
        try:
            async for event in events:
                yield event.value
        finally:
            await events.aclose()
