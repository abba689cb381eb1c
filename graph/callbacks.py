"""`POST /callbacks/{token}`: where providers report."""

from __future__ import annotations

from cross_web import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from graph.body import LimitedBody
from graph.refusal import refusal
from tasks.darkroom import Darkroom

LARGEST = 64 * 1024 * 1024
"""A provider may deliver the picture itself."""


class CallbackRoute:
    """Keeps what a provider sends, and answers only then. The token in the URL is the permission."""

    def __init__(self, darkroom: Darkroom) -> None:
        self._darkroom = darkroom

    async def post(self, request: Request) -> Response:
        """Any body of any type."""
        token = request.path_params["token"]
        if not await self._darkroom.callbacks.known(token):
            return refusal(404, "There is no such callback.")
        limited = LimitedBody(request.receive, LARGEST, "A report may have {limit:,} bytes at most.")
        try:
            body = await Request(request.scope, limited.receive).body()
        except HTTPException as exc:
            return refusal(exc.status_code, exc.reason)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it; what was cut off is not kept
        await self._darkroom.callbacks.deliver(token, request.headers.get("content-type", ""), body)
        return Response(status_code=204)
