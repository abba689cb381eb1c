"""What a request hears that is still waiting when the server has to stop."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.refusal import refusal

STOPPING = (
    "This server is stopping. A mutation may or may not have been carried out: repeat it in a moment, or at another "
    "server, with the same `idempotencyKey`, and nothing is paid twice."
)


class AnswersWhenStopping:
    """Answers requests that the server gives up, instead of hanging up on them. Nothing else gives up a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; websockets have a farewell of their own."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if not begun:
                await refusal(503, STOPPING)(scope, receive, send)
