"""An event as the subscribers of a group get it."""

from __future__ import annotations

from graph.live.source import LiveEvent

LARGE = 128 * 1024
"""A message with more bytes than this is written piece by piece, and lets smaller ones go first."""


class Message:
    """An encoded event. `inlined` is how many bytes of pictures are in it."""

    __slots__ = ("body", "event", "heads", "inlined", "large", "opening", "sequence")

    def __init__(self, event: LiveEvent, body: bytes, inlined: int = 0) -> None:
        self.event = event
        self.sequence = event.sequence
        self.body = body
        self.inlined = inlined
        self.large = len(body) > LARGE
        # What a transport puts before the bytes, which are never copied.
        self.heads: dict[int, bytes] = {}
        self.opening: bytes | None = None
