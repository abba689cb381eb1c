"""Tiny's API."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from uuid import uuid4

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from providers.sandbox.ledger import Ledger


def simulator(ledger: Ledger) -> Starlette:
    """`POST /paint` answers at once with the painting's id in `X-Painting`, and with the square when it is dry;
    `DELETE /paint/<id>` stops it until then.
    """
    drying: dict[str, asyncio.Event] = {}

    async def paint(request: Request) -> Response:
        asked = await request.json()
        painting = uuid4().hex
        await ledger.charge(provider="tiny", reference=asked["reference"], submission=painting, images=1)
        drying[painting] = stopped = asyncio.Event()

        async def square() -> AsyncIterator[bytes]:
            try:
                async with asyncio.timeout(asked["seconds"]):
                    await stopped.wait()
            except TimeoutError:
                picture = io.BytesIO()
                Image.new("RGB", (asked["side"], asked["side"]), asked["colour"]).save(picture, "PNG")
                yield picture.getvalue()
            finally:
                del drying[painting]

        return StreamingResponse(square(), media_type="image/png", headers={"X-Painting": painting})

    async def stop(request: Request) -> Response:
        stopped = drying.get(request.path_params["painting"])
        if stopped is None:
            return Response(status_code=404)
        stopped.set()
        return Response(status_code=204)

    return Starlette(
        routes=[Route("/paint", paint, methods=["POST"]), Route("/paint/{painting}", stop, methods=["DELETE"])]
    )
