"""The vendor's webhooks, taken for what they are worth: a hint to look now.

They are not signed (contract all-images §3.5), so nothing in them is believed. A delivery that is plainly about
another generation of the same account is no hint for this one; anything else is, and costs at most one look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import orjson
from pydantic import JsonValue

from providers.all_images.api import EVENTS, Api
from providers.contract import Callback, Delivery
from providers.errors import ProviderError

log = logging.getLogger(__name__)

_SUBSCRIBING_SECONDS = 5.0
"""What subscribing and unsubscribing may take: nobody's picture waits longer for what only makes it sooner."""


class Hints:
    """A bell that rings when there may be news."""

    def __init__(self) -> None:
        self._bell = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Wait for the next hint, `seconds` at most; whether one came. What rang meanwhile counts as one."""
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            return False
        self._bell.clear()
        return True

    @asynccontextmanager
    async def listening(self, callback: Callback | None, generation_id: str) -> AsyncIterator[None]:
        """Listen to what is delivered to `callback` about that generation."""
        if callback is None:
            yield
            return
        listener = asyncio.create_task(self._listen(callback, generation_id))
        try:
            yield
        finally:
            listener.cancel()
            (ended,) = await asyncio.gather(listener, return_exceptions=True)
            if isinstance(ended, Exception):
                log.warning("All-Images.ai webhooks could not be read (%s); polling went on", type(ended).__name__)

    async def _listen(self, callback: Callback, generation_id: str) -> None:
        async with aclosing(callback.deliveries()) as deliveries:
            async for delivery in deliveries:
                if _about(delivery) in (None, generation_id):
                    self._bell.set()


def _about(delivery: Delivery) -> str | None:
    """The generation a delivery claims to be about; None where it does not say."""
    try:
        value: JsonValue = orjson.loads(delivery.body)
    except orjson.JSONDecodeError:
        return None
    data = value.get("data") if isinstance(value, dict) else None
    found = data.get("id") if isinstance(data, dict) else None
    return found if isinstance(found, str) else None


async def subscribe(api: Api, callback: Callback) -> str | None:
    """Have the vendor report to `callback`; the subscription's id, or None where it is polling alone."""
    try:
        async with asyncio.timeout(_SUBSCRIBING_SECONDS):
            return await api.subscribe(callback.url, EVENTS)
    except (ProviderError, TimeoutError) as exc:
        # The vendor's words may repeat the callback's URL, and with it the token: they stay out of the log.
        log.warning("All-Images.ai takes no webhook (%s); its generations are polled", type(exc).__name__)
        return None


async def unsubscribe(api: Api, webhook_id: str | None) -> None:
    """End a subscription; one that cannot be ended does no harm, since its URL is not listened to any more."""
    if webhook_id is None:
        return
    try:
        async with asyncio.timeout(_SUBSCRIBING_SECONDS):
            await api.unsubscribe(webhook_id)
    except (ProviderError, TimeoutError) as exc:
        log.info("an All-Images.ai webhook could not be removed (%s)", type(exc).__name__)
