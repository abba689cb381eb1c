"""Groups: the subscribers who watch the same thing in the same way.

Two subscribers are in one group when they sent the same document, operation name and variables (but for where they
begin), watch the same thing, and have the same rights. An event is then executed and encoded once for all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterator
from contextlib import aclosing
from hashlib import sha256
from inspect import isawaitable

from graphql import GraphQLError

from graph.context import Context
from graph.live.kept import MESSAGES, Kept, Total
from graph.live.load import Load
from graph.live.message import Message
from graph.live.operation import Checked, OperationRequest, RefusedError, Selection, encode, subscribe
from graph.live.outlet import Outlet
from graph.live.replay import Preludes, Replay, Replays, prelude, read
from graph.live.source import LiveEvent, Prelude, Source
from graph.live.subscriber import Subscriber
from graph.schema import Schema, encoded
from resolvers.images import DataUriBudget

BREATH = 16
"""How many events may be told in a row before the rest of this process gets a turn."""


class Meter(DataUriBudget):
    """Counts what one execution takes from a budget; without one, nothing is allowed."""

    def __init__(self, budget: DataUriBudget | None) -> None:
        super().__init__()
        self._budget = budget
        self.taken = 0

    def allows(self, size: int) -> bool:
        """Take `size` bytes."""
        if self._budget is None or not self._budget.allows(size):
            return False
        self.taken += size
        return True


class Groups:
    """All groups of this process, and what they cost together."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._groups: dict[Hashable, Group] = {}
        self.load = Load()
        self.kept = Total()

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    @property
    def subscribers(self) -> int:
        """How many subscriptions are open."""
        return sum(map(len, self._groups.values()))

    async def join(
        self,
        request: OperationRequest,
        checked: Checked,
        context: Context,
        outlet: Outlet,
        *,
        id: str = "",
        prefix: bytes = b"",
        cursor: str | None = None,
    ) -> Subscriber:
        """Begin a subscription; it begins after `cursor` if there is one, and else where its document says.

        Raises `RefusedError` before there is a first event.
        """
        source, executor = await subscribe(self._schema, checked, request.variables, context)
        if cursor is not None:
            source.resume(cursor)
        key = source.key, _digest(request, checked), context.rights
        group = self._groups.get(key)
        if group is None:
            shared = Context(context.darkroom, context.rights)
            group = self._groups[key] = Group(self, key, source, Selection(executor), shared, inlines=checked.inlines)
        begins = None if source.place is None else source
        subscriber = Subscriber(group, outlet, id, prefix, source.after, begins)
        group.join(subscriber)
        return subscriber

    def remove(self, key: Hashable) -> None:
        """Forget a group that nobody is in any more."""
        del self._groups[key]


def _digest(request: OperationRequest, checked: Checked) -> bytes:
    """Stands for what was asked for, however long that is, without where to begin. Raises `RefusedError`."""
    variables = {name: value for name, value in (request.variables or {}).items() if name != checked.start_variable}
    try:
        asked = encoded([request.query, request.operation_name, variables])
    except GraphQLError as exc:
        raise RefusedError([exc]) from exc
    return sha256(asked).digest()


class Group:
    """Subscribers who get the same bytes. `newest` is the sequence of the last event that there was for them."""

    __slots__ = (
        "_behind",
        "_budget",
        "_context",
        "_groups",
        "_kept",
        "_kept_up",
        "_key",
        "_live",
        "_preludes",
        "_pump",
        "_replays",
        "_selection",
        "ended",
        "newest",
        "source",
    )

    def __init__(
        self, groups: Groups, key: Hashable, source: Source, selection: Selection, context: Context, *, inlines: bool
    ) -> None:
        self.source = source
        self.newest = source.newest
        self.ended = source.ended
        self._groups = groups
        self._key = key
        self._selection = selection
        self._context = context
        self._budget = DataUriBudget() if inlines else None
        self._live: dict[Subscriber, None] = {}
        self._behind: dict[Subscriber, None] = {}
        self._preludes: Preludes | None = None
        self._replays: Replays | None = None
        if self._budget is None and (first := source.first()):
            self._replays = Replays()
            self._replays.begin(source.after, first)
        self._kept: Kept | None = None
        self._kept_up: asyncio.Future[None] | None = None
        self._pump: asyncio.Task[None] | None = None
        if not self.ended:
            self._pump = asyncio.create_task(self._run(), name="group")
            self._pump.add_done_callback(self._stopped)

    def __len__(self) -> int:
        return len(self._live) + len(self._behind)

    @property
    def load(self) -> Load:
        """Where large messages are counted."""
        return self._groups.load

    def join(self, subscriber: Subscriber) -> None:
        """Take in a subscriber, wherever it begins."""
        self._behind[subscriber] = None
        subscriber.catch_up()

    def caught_up(self, subscriber: Subscriber) -> None:
        """From now on a subscriber gets events as they happen."""
        del self._behind[subscriber]
        self._live[subscriber] = None
        if self._kept_up is not None and not self._kept_up.done():
            self._kept_up.set_result(None)
        self._tidy()

    def leave(self, subscriber: Subscriber) -> None:
        """Let a subscriber go. The last one takes the group with it."""
        if subscriber not in self._live and subscriber not in self._behind:
            return
        self._live.pop(subscriber, None)
        self._behind.pop(subscriber, None)
        self._tidy()
        if not self._live and not self._behind:
            self._groups.remove(self._key)
            if self._pump is not None and not self.ended:
                self._pump.cancel()

    def is_picture(self, event: LiveEvent) -> bool:
        """Whether an event has the bytes of a picture in it, the way this group asks for it."""
        return event.picture and self._budget is not None

    @property
    def inlines(self) -> bool:
        """Whether pictures can be in the answers. What is encoded for one who comes back is then for nobody else."""
        return self._budget is not None

    def after(self, sequence: int) -> Message | None:
        """The first event above a sequence, if it is kept."""
        return None if self._kept is None else self._kept.after(sequence)

    async def replay(self, sequence: int) -> Replay:
        """The stored events above a sequence; shared, but where each client has a budget of its own for what is in
        them."""
        if self._budget is not None:
            return await read(self.source, sequence)
        if self._replays is None:
            self._replays = Replays()
        return await self._replays.after(self.source, sequence)

    async def prelude(self, source: Source) -> tuple[Prelude, Replay]:
        """What somebody gets first who comes back; shared like stored events."""
        await self.source.begun()
        if self._budget is not None:
            return await prelude(source, self.source)
        if self._preludes is None:
            self._preludes = Preludes()
        return await self._preludes.of(source, self.source, self._reaches)

    def _reaches(self, sequence: int) -> bool:
        """Whether all events above a sequence are kept, or still to come."""
        return sequence >= self.newest or (self._kept is not None and self._kept.reaches(sequence))

    async def encode(self, event: LiveEvent, budget: DataUriBudget | None) -> Message:
        """Execute the group's selection for an event, with the inline pictures that a budget allows."""
        meter = None
        context = self._context
        if self._budget is not None:
            meter = Meter(budget)
            context = Context(context.darkroom, context.rights, data_uris=meter)
        result = self._selection.of(event, context)
        if isawaitable(result):
            result = await result
        return Message(event, encode(result.data, result.errors), 0 if meter is None else meter.taken)

    async def _run(self) -> None:
        told = 0
        async with aclosing(self.source.live(self.newest)) as events:
            async for event in events:
                told += 1
                if self._behind or not told % BREATH:
                    await self._breathe()
                self._deliver(await self.encode(event, self._budget))
        self.ended = True
        for subscriber in list(self._live):
            subscriber.finish()

    async def _breathe(self) -> None:
        """Let the others in this process go on, among them those who are behind.

        What cannot be read again is held back while nobody keeps up: such a stream goes as fast as its fastest reader,
        and its source collects meanwhile.
        """
        await asyncio.sleep(0)
        while not self.source.rereadable and not self._live:
            self._kept_up = asyncio.get_running_loop().create_future()
            await self._kept_up
            self._kept_up = None

    def _stopped(self, pump: asyncio.Task[None]) -> None:
        self._pump = None
        if not pump.cancelled() and isinstance(error := pump.exception(), Exception):
            self.ended = True
            for subscriber in [*self._live, *self._behind]:
                subscriber.outlet.fail(subscriber, error)

    def _deliver(self, message: Message) -> None:
        """Write an event to everybody who keeps up; the others come for it when they can."""
        sequence, inlined, large = message.sequence, message.inlined, message.large
        before, self.newest = self.newest, sequence
        if self._replays is not None:
            self._replays.forget()
        late = []
        for subscriber in self._live:
            if sequence <= subscriber.position:
                continue
            outlet = subscriber.outlet
            if outlet.blocked or large or (inlined and not outlet.budget.allows(inlined)):
                late.append(subscriber)
            else:
                subscriber.position = sequence
                outlet.deliver(subscriber, message)
        if late or self._behind:
            self._keep(message, before)
        now = time.monotonic()
        for subscriber in late:
            del self._live[subscriber]
            self._behind[subscriber] = None
            subscriber.catch_up(now)

    def _keep(self, message: Message, before: int) -> None:
        if self._kept is None:
            self._kept = Kept(self._groups.kept, before, MESSAGES if self.source.rereadable else None)
        self._kept.add(message)

    def _tidy(self) -> None:
        """Keep nothing when nobody is behind."""
        if not self._behind and self._kept is not None:
            self._kept.clear()
            self._kept = None
