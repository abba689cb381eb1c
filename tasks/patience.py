"""How long to go on trying while something of our own is away."""

from __future__ import annotations

import logging

from tenacity import (
    AsyncRetrying,
    before_sleep_log,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from tasks.errors import DatabaseUnavailableError

log = logging.getLogger(__name__)

DATABASE_SECONDS = 600.0
"""How long a running task waits for the database to come back before it is given up."""


def patiently(
    error: type[Exception] = DatabaseUnavailableError,
    seconds: float = DATABASE_SECONDS,
    *,
    but_not: tuple[type[Exception], ...] | type[Exception] = (),
) -> AsyncRetrying:
    """Try again, with growing pauses and jitter, while `error` is raised; raise it after `seconds`."""
    return AsyncRetrying(
        retry=retry_if_exception_type(error) & retry_if_not_exception_type(but_not),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        stop=stop_after_delay(seconds),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
