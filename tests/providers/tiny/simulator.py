"""Tiny's API."""

from __future__ import annotations

import io

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from providers.sandbox.ledger import Ledger


def simulator(ledger: Ledger) -> Starlette:
    """`POST /paint` answers with a square."""

    async def paint(request: Request) -> Response:
        asked = await request.json()
        await ledger.charge(provider="tiny", reference=asked["reference"], submission="1", images=1)
        picture = io.BytesIO()
        Image.new("RGB", (asked["side"], asked["side"]), asked["colour"]).save(picture, "PNG")
        return Response(picture.getvalue(), media_type="image/png")

    return Starlette(routes=[Route("/paint", paint, methods=["POST"])])
