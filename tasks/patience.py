"""How long to go on trying while something of our own is away."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, stop_after_delay, wait_random_exponential
from tenacity import retry_if_not_exception_type as unless

from tasks.errors import DatabaseUnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")

DATABASE_SECONDS = 600.0
"""How long a running task waits for the database to come back before it is given up."""


async def patiently(
    work: Callable[[], Awaitable[T]],
    error: type[Exception] = DatabaseUnavailableError,
    seconds: float = DATABASE_SECONDS,
    *,
    but_not: tuple[type[Exception], ...] = (),
) -> T:
    """Do `work`. While it raises `error`, do it again, with growing pauses and jitter; after `seconds` raise that."""
    try:
        return await work()
    except but_not:
        raise
    except error as exc:
        log.warning("%s; it is tried again", exc)
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(error) & unless(but_not),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        stop=stop_after_delay(seconds),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            return await work()
    raise AssertionError("unreachable: the last attempt returns or raises")
