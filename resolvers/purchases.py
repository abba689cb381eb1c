"""`purchaseImage`: the full picture behind a preview."""

from __future__ import annotations

from tasks.darkroom import Darkroom
from tasks.records import ImageRecord


async def purchase_image(darkroom: Darkroom, image_id: str) -> ImageRecord | None:
    """The bought picture; None when there is no picture with this id.

    Raises `tasks.errors.NotForSaleError`, `providers.errors.ProviderError` or `tasks.errors.StorageError`.
    """
    image = await darkroom.history.image(image_id)
    return None if image is None else await darkroom.purchase(image)
