"""Sending an answer the way a fault script wants it: in pieces, cut off, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class ConnectionDropped(Exception):
    """Raised where the server offers no way to close a connection; servers close it on an error as well."""


class Dropped(Response):
    """No answer: the connection closes without a byte."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _drop(receive)


class Delivery(Response):
    """An answer made of `parts`, sent as they come, in pieces of `chunk` bytes where that is given.

    With `cut` the connection closes after the last part instead of the answer ending properly. `parts` is
    closed in any case, also when the client goes away first.
    """

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str],
        chunk: int | None = None,
        cut: bool = False,
    ) -> None:
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]  # the length is not known, so the body is sent chunked
        self._parts = parts
        self._chunk = chunk
        self._cut = cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if self._cut and not sending.cancelled():
            await _drop(receive)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._parts) as parts:
            async for part in parts:
                size = self._chunk or max(1, len(part))
                for start in range(0, len(part), size):
                    await send({"type": "http.response.body", "body": part[start : start + size], "more_body": True})
                    await asyncio.sleep(0)  # many small pieces must not keep everybody else waiting
        if not self._cut:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drop(receive: Receive) -> None:
    """Close the connection under the answer, after what has been written so far.

    ASGI has no message for it, but uvicorn's `receive` belongs to the object that holds the transport.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if not isinstance(transport, asyncio.Transport):
        raise ConnectionDropped("the sandbox script closes this connection")
    transport.close()
    await _left(receive)
