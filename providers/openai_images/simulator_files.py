"""The links of the simulated vendor: unsigned, dead after an hour, as blob stores are (contract openai-images §5)."""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from providers.openai_images.simulator_validation import Order
from providers.sandbox.drawing import Drawing, drawn

_KEPT = 1000
"""Links remembered; the oldest are forgotten first. They hold what to draw, not the picture."""


@dataclass(frozen=True, slots=True)
class _File:
    drawing: Drawing
    order: Order
    good_until: float


class Files:
    """Pictures behind links that are good for `seconds`."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._files: OrderedDict[str, _File] = OrderedDict()

    def linker(self, request: Request, *, expired: bool) -> Callable[[Drawing, Order], str]:
        """Makes links that whoever sent `request` can reach; `expired` ones are dead from the start."""
        home = f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}/files"

        def link(drawing: Drawing, order: Order) -> str:
            name = f"{uuid.uuid4().hex}.{order.output_format}"
            self._files[name] = _File(drawing, order, time.monotonic() + (0 if expired else self._seconds))
            while len(self._files) > _KEPT:
                self._files.popitem(last=False)
            return f"{home}/{name}"

        return link

    async def serve(self, request: Request) -> Response:
        """The picture; 403 when the link has expired, 404 when there never was one."""
        file = self._files.get(request.path_params["name"])
        if file is None:
            return _fault(404, "BlobNotFound", "The specified blob does not exist.")
        if time.monotonic() >= file.good_until:
            return _fault(403, "AuthenticationFailed", "The link has expired.")
        order = file.order
        picture = await drawn(file.drawing, order.output_format, compression=order.compression)
        return Response(picture, media_type=f"image/{order.output_format}")


def _fault(status: int, code: str, message: str) -> Response:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(body, status, media_type="application/xml")
