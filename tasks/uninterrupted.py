"""Work that is finished even when whoever asked for it is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end, and only then be cancelled: what has happened gets recorded. Cancelled twice, it ends."""
    doing = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError:
            doing.cancel()
            raise
        if not doing.cancelled() and (error := doing.exception()) is not None:
            log.info("It failed while whoever asked for it was being stopped: %s", error)
        raise
