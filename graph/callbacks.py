"""`POST /callbacks/{token}`: where providers report."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from graph.http import LimitedBody, problem
from tasks.darkroom import Darkroom

LARGEST = 64 * 1024 * 1024
"""A provider may deliver the picture itself."""


class CallbackRoute:
    """Keeps what a provider sends, and answers only then. The token in the URL is the permission."""

    def __init__(self, darkroom: Darkroom) -> None:
        self._darkroom = darkroom

    async def post(self, request: Request) -> Response:
        """Any body of any type."""
        body = await Request(request.scope, LimitedBody(request.receive, LARGEST).receive).body()
        media_type = request.headers.get("content-type", "")
        if not await self._darkroom.callbacks.deliver(request.path_params["token"], media_type, body):
            return problem(404, "There is no such callback.")
        return Response(status_code=204)
