"""The fields of a picture that need its bytes."""

from __future__ import annotations

import base64
import time

from tasks.darkroom import Darkroom
from tasks.imaging import THUMBNAIL_WIDTHS
from tasks.records import ImageRecord

DATA_URI_LIMIT = 10_000_000
"""Most bytes of a file that are ever sent inside GraphQL."""
DATA_URI_BUDGET = 40_000_000
"""Most bytes of files that one client gets inline in a second."""


def path(image: ImageRecord, width: int | None) -> str:
    """Where a picture, or a thumbnail of it at least `width` pixels wide, is served on this server."""
    if width is None or width > THUMBNAIL_WIDTHS[-1]:
        return f"/images/{image.id}"
    return f"/images/{image.id}?width={next(allowed for allowed in THUMBNAIL_WIDTHS if allowed >= width)}"


async def placeholder(darkroom: Darkroom, image: ImageRecord) -> str | None:
    """A tiny `data:` URI to show until the picture has loaded; None for a file that cannot be decoded."""
    return await darkroom.images.placeholder_of(image)


class DataUriBudget:
    """How much inline picture data one client gets: a page of a hundred pictures must not fill the memory."""

    def __init__(self) -> None:
        self._since = 0.0
        self._spent = 0

    def allows(self, size: int) -> bool:
        """Take `size` bytes from the budget of this second; False when there is not enough left."""
        if (now := time.monotonic()) - self._since >= 1:
            self._since, self._spent = now, 0
        if self._spent + size > DATA_URI_BUDGET:
            return False
        self._spent += size
        return True


async def data_uri(darkroom: Darkroom, image: ImageRecord, max_bytes: int, budget: DataUriBudget) -> str | None:
    """The original file as a `data:` URI; None when it has more than `max_bytes`, or than `DATA_URI_LIMIT`, or when
    the client has had `DATA_URI_BUDGET` bytes in this second already."""
    if image.byte_size > min(max_bytes, DATA_URI_LIMIT) or not budget.allows(image.byte_size):
        return None
    data = await darkroom.images.read(image)
    return f"data:{image.media_type};base64,{base64.b64encode(data).decode()}"
