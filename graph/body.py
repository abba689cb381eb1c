"""How large a request may be."""

from __future__ import annotations

from cross_web import HTTPException
from starlette.types import Message, Receive

DRAIN_LIMIT = 64 * 1024 * 1024
"""How much of a body that is too large is read and thrown away, so that the client can read its answer."""


class LimitedBody:
    """A request body that may not grow beyond a limit. What is too much is read and dropped, then refused."""

    def __init__(self, receive: Receive, limit: int, refusal: str) -> None:
        self._receive = receive
        self._limit = limit
        self._refusal = refusal
        self._seen = 0

    async def receive(self) -> Message:
        """The next message; raises a 413 when the body is too large."""
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            while message.get("more_body") and self._seen < DRAIN_LIMIT:
                message = await self._receive()
                self._seen += len(message.get("body", b""))
            raise HTTPException(413, self._refusal.format(limit=self._limit))
        return message
