"""A subscriber: one client's subscription, and where it is in the stream of its group.

While it keeps up it is a small object in its group's list, and nothing else. When it is behind, because it has just
come or because its reader is slow, a task brings it up to date: from what the group keeps, or from the log.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from graph.live.message import Message
from graph.live.outlet import Outlet
from graph.live.replay import Replay
from graph.live.source import LiveEvent, Source

if TYPE_CHECKING:
    from graph.live.groups import Group

PATIENCE = 1.0
"""How many seconds a reader may be behind before pictures that are no longer the newest are left out for it."""


class Subscriber:
    """One subscription of one client.

    `position` is the sequence of the last event it was sent, or was spared. `prefix` is what its transport puts before
    every message. `begins` is where it comes back from, if it is told first what it has missed.
    """

    __slots__ = ("_begins", "_behind_since", "_group", "_next", "_task", "id", "outlet", "position", "prefix")

    def __init__(
        self, group: Group, outlet: Outlet, id: str, prefix: bytes, position: int, begins: Source | None = None
    ) -> None:
        self.outlet = outlet
        self.id = id
        self.prefix = prefix
        self.position = position
        self._group = group
        self._begins = begins
        self._next: LiveEvent | None = None
        self._behind_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    def catch_up(self, behind_since: float | None = None) -> None:
        """Be brought up to date. `behind_since` is when it fell behind; None when it has just come, for then
        nothing is left out."""
        if self._begins is None and self.position >= self._group.newest and not self._group.ended:
            self._group.caught_up(self)
            return
        self._behind_since = behind_since
        self._task = asyncio.create_task(self._catch_up(), name="subscriber")
        self._task.add_done_callback(self._stopped)

    @property
    def at_end(self) -> bool:
        """Whether there is nothing to send, now or later."""
        return self._group.ended and self.position >= self._group.newest

    def urgent(self) -> bool:
        """Whether what it sends next is small, or is about to be left out."""
        event = self._next
        return event is None or not self._group.is_picture(event) or self._leaves_out(event)

    def finish(self) -> None:
        """Everything has been sent."""
        self.outlet.complete(self)

    def leave(self) -> None:
        """Stop, whatever is going on."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._group.leave(self)

    async def _catch_up(self) -> None:
        group = self._group
        if self._begins is not None:
            await self._tell_missed(self._begins)
            self._begins = None
        replay: Replay | None = None
        left_out: list[LiveEvent] = []
        resume_after = self.position
        while self.position < group.newest:
            message, event = group.after(self.position), None
            if message is not None:
                event = message.event
            else:
                if replay is None or (event := replay.after(self.position)) is None:
                    replay = await group.replay(self.position)
                    event = replay.after(self.position)
                if event is None:
                    break  # it has been deleted
            if self._leaves_out(event):
                if not left_out:
                    resume_after = self.position
                left_out.append(event)
            elif left_out:
                await self._send(group.source.skipped(left_out[-1], len(left_out), resume_after), None, None)
                left_out.clear()
                continue
            elif not await self._send(event, message, replay):
                continue
            self.position = event.sequence
        if group.ended:
            self.finish()
        else:
            group.caught_up(self)

    async def _tell_missed(self, source: Source) -> None:
        """What only those get who come back to the same place. What happens meanwhile, the group keeps."""
        prelude, encoded = await self._group.prelude(source)
        for event in prelude.events:
            await self._send(event, None, encoded)
        self.position = prelude.then

    def _leaves_out(self, event: LiveEvent) -> bool:
        """Whether an event is a picture that is no longer the newest thing, and the reader is slow."""
        since = self._behind_since
        return (
            since is not None
            and self._group.is_picture(event)
            and event.sequence < self._group.newest
            and time.monotonic() - since > PATIENCE
        )

    async def _send(self, event: LiveEvent, message: Message | None, replay: Replay | None) -> bool:
        """Write one event, as the group keeps it or from the log, when its turn comes; False if it is to be left out
        by then."""
        group, outlet = self._group, self.outlet
        self._next = event
        async with outlet.turn(self):
            if self._leaves_out(event):
                return False
            if message is None:
                message = await self._encoded(event, replay)
            elif message.inlined and not outlet.budget.allows(message.inlined):
                message = await group.encode(event, None)
            if message.large:
                with group.load.carry(message, outlet):
                    await outlet.write(outlet.pieces_of(self, message))
            else:
                outlet.deliver(self, message)
            return True

    async def _encoded(self, event: LiveEvent, replay: Replay | None) -> Message:
        encode = partial(self._group.encode, event, self.outlet.budget)
        if replay is None or self._group.inlines:
            return await encode()
        return await replay.encoded(event, encode)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if task is not self._task:
            return  # it has left, or has fallen behind again already
        self._task = self._next = None
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.outlet.fail(self, error)
