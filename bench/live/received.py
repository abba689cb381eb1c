"""What the load client receives, taken apart and checked, message by message.

Every message is checked: that it is for the right operation, that it is the next event of its task, and that it is
whole. The first of each event is read as JSON; those of the other watchers of that task must be the same bytes, or at
least as many with the same sequence.
"""

from __future__ import annotations

import json
import re
import time

from bench.checks import WrongError
from bench.live.workloads import Load

FIRST = 2
"""The sequence of the first event that is sent; the tasks have one already."""
INLINE = 99_000
"""Least characters of an inline picture."""
_STAMP = re.compile(rb'"name":"(\d+)"')
_SEQUENCE = re.compile(rb'"sequence":(\d+)')


class Expecting:
    """One subscription, and what it expects next."""

    __slots__ = ("buffer", "head", "next", "task")

    def __init__(self, number: int, task: int) -> None:
        self.task = task
        self.head = b'{"id":"w%d","type":"next","payload":' % number
        self.next = FIRST
        self.buffer = b""

    def pong(self, payload: bytes) -> None:
        """Answer a ping."""
        raise NotImplementedError


class Received:
    """All messages so far. Every method raises `WrongError` for what should not have come."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._known: dict[tuple[int, int], bytes] = {}
        self.incomplete: dict[int, int] = {}
        """How many watchers have an event that not all of them have, by sequence."""
        self.rounds = 0
        """How many events everybody has."""
        self.messages = 0
        self.message_bytes = 0
        self.latencies: list[float] | None = None
        """Seconds from the publishing to here, where they are wanted."""

    def take(self, watcher: Expecting, data: bytes) -> None:
        """Bytes of one websocket: cut into messages, and keep the rest."""
        if watcher.buffer:
            data = watcher.buffer + data
        position, end = 0, len(data)
        while end - position >= 2:
            size, start = data[position + 1], position + 2
            if size == 126:
                size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif size == 127:
                size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            if end < start + size:
                break
            if data[position] == 0x81:
                self._message(watcher, data[start : start + size])
            elif data[position] == 0x89:
                watcher.pong(data[start : start + size])
            else:
                raise WrongError(f"an unexpected frame: {data[position : start + size][:200]!r}")
            position = start + size
        watcher.buffer = data[position:]

    def _message(self, watcher: Expecting, message: bytes) -> None:
        due = watcher.next
        if not message.startswith(watcher.head):
            raise WrongError(f"not a message that begins with {watcher.head!r}: {message[:300]!r}")
        payload = message[len(watcher.head) :]
        known = self._known.get((watcher.task, due))
        if known is None:
            self._read(message, due)
            self._known[watcher.task, due] = payload
        elif payload != known:
            # Not every server makes the same bytes for all, but each makes the same event.
            found = _SEQUENCE.search(payload)
            if found is None or int(found[1]) != due or len(payload) != len(known):
                raise WrongError(f"{payload[:300]!r} came where event {due} was due")
        if self.latencies is not None and (stamp := _STAMP.search(payload)) is not None:
            self.latencies.append((time.monotonic_ns() - int(stamp[1])) / 1e9)
        watcher.next += 1
        self.messages += 1
        self._count(due)

    def _read(self, message: bytes, due: int) -> None:
        payload = json.loads(message)["payload"]
        if payload.keys() != {"data"}:
            raise WrongError(f"an event with errors: {message[:300]!r}")
        event = payload["data"]["taskEvents"]
        if event["sequence"] != due:
            raise WrongError(f"event {event['sequence']} came where {due} was due")
        if self._load.picture and len(event["image"]["dataUri"] or "") < INLINE:
            raise WrongError(f"event {due} came without its picture")
        self.message_bytes = len(message)

    def _count(self, sequence: int) -> None:
        have = self.incomplete[sequence] = self.incomplete.get(sequence, 0) + 1
        if have == self._load.watchers:
            del self.incomplete[sequence]
            for task in range(self._load.tasks):
                self._known.pop((task, sequence), None)
            self.rounds += 1
