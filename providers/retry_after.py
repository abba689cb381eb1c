"""When to come back, from all the places a vendor writes it (contract openai-images §4.2)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from pydantic import JsonValue

_TRY_AGAIN_IN = re.compile(r"try again in (?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(ms|s))?", re.IGNORECASE)


def retry_after(headers: httpx.Headers, in_body: float | None) -> float | None:
    """Seconds: `Retry-After` as a number or an HTTP date, then `retry-after-ms`, then what the body says."""
    value = headers.get("retry-after", "").strip()
    seconds = _number(value)
    if seconds is not None:
        return seconds
    if value:
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return in_body
        return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
    milliseconds = _number(headers.get("retry-after-ms", ""))
    return in_body if milliseconds is None else milliseconds / 1000


def seconds_in_body(error: Mapping[str, JsonValue]) -> float | None:
    """A field `retry_after` of an error body, in seconds."""
    value = error.get("retry_after")
    return _number(value) if isinstance(value, str | int | float) else None


def seconds_in_text(message: str | None) -> float | None:
    """OpenAI writes `Please try again in 1m12s.` or `in 350ms`."""
    found = _TRY_AGAIN_IN.search(message or "")
    if found is None or not (found[1] or found[2]):
        return None
    rest = float(found[2] or 0)
    return int(found[1] or 0) * 60 + (rest / 1000 if found[3] == "ms" else rest)


def _number(value: str | float) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
