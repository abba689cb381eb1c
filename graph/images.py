"""`GET /images/{id}`: pictures over plain HTTP, cacheable for ever."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from graph.refusal import refusal
from tasks.darkroom import Darkroom
from tasks.errors import StorageError
from tasks.imaging import THUMBNAIL_WIDTHS, ImageFormat

log = logging.getLogger(__name__)


class Images:
    """The route that sends originals and thumbnails."""

    def __init__(self, darkroom: Darkroom) -> None:
        self._darkroom = darkroom

    async def get(self, request: Request) -> Response:
        """The original, or with `?width=` (one of the thumbnail widths) a WebP at most that wide."""
        image = await self._darkroom.history.image(request.path_params["id"])
        if image is None:
            return refusal(404, "There is no such picture. Query `tasks { images { url } }` for those there are.")
        width = request.query_params.get("width")
        if width is not None and width not in map(str, THUMBNAIL_WIDTHS):
            allowed = ", ".join(map(str, THUMBNAIL_WIDTHS))
            return refusal(400, f"`width` is {width!r}; thumbnails are made in these widths: {allowed}.")
        if image.media_type == ImageFormat.SVG:
            width = None
        etag = f'"{image.sha256}"' if width is None else f'"{image.sha256}-{width}"'
        headers = {
            "etag": etag,
            # An image id always means the same bytes. "private", because only its owner may see it.
            "cache-control": "private, max-age=31536000, immutable",
            "x-content-type-options": "nosniff",
            "content-security-policy": "default-src 'none'; sandbox",
        }
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        try:
            if width is not None:
                thumbnail = await self._darkroom.images.thumbnail(image, int(width))
                return Response(thumbnail, media_type="image/webp", headers=headers)
            chunks = await self._darkroom.images.open(image)
        except StorageError:
            log.exception("Image %s cannot be sent", image.id)
            return refusal(
                500, "The picture cannot be read from this server's store. The server's log has the details."
            )
        headers["content-length"] = str(image.byte_size)
        return StreamingResponse(chunks, media_type=image.media_type, headers=headers)
