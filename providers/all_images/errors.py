"""What the vendor and httpx say, converted into `providers.errors`: here and nowhere else.

Source: contract all-images §4 (one body in several shapes, statuses). A refusal (3xx, 4xx) of a request is not billed;
what failed on their side (5xx), or got no answer at all, may be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import httpx
import orjson
from pydantic import JsonValue

from providers.all_images.answer import JsonObject
from providers.all_images.request import PARAMS
from providers.all_images.settings import PREFIX
from providers.errors import (
    BadResponseError,
    InvalidRequestError,
    OutcomeUnknownError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitedError,
    TimedOutError,
    Transport,
    UnauthorizedError,
    UnavailableError,
)
from providers.retry_after import retry_after, seconds_in_body
from providers.speaker import Speaker

_BY_STATUS: Mapping[int, type[ProviderError]] = MappingProxyType(
    {
        401: UnauthorizedError,
        402: QuotaExhaustedError,
        403: UnauthorizedError,
        404: BadResponseError,
        405: BadResponseError,
        408: TimedOutError,
        429: RateLimitedError,
        504: TimedOutError,
    }
)
_LEAD: Mapping[type[ProviderError], str] = MappingProxyType(
    {
        InvalidRequestError: "{host} refused the request",
        UnauthorizedError: f"{{host}} did not accept this server's API key for this ({PREFIX}API_KEY)",
        QuotaExhaustedError: "The account at {host} has no credits left for this",
        RateLimitedError: "{host} is receiving too many requests",
        UnavailableError: "{host} failed on its own side",
        TimedOutError: "{host} took too long",
        BadResponseError: f"There is nothing at this address on {{host}}; check {PREFIX}BASE_URL",
    }
)
_PASSING = frozenset({429, 502, 503, 504})
_PARAMETER = re.compile(r"(?:each value in )?(?:params\.)?([A-Za-z]\w*)\b")


def refusal(
    status: int, headers: httpx.Headers, body: bytes, speaker: Speaker, *, no_credits_status: int = 402
) -> ProviderError:
    """The error for an answer that is no success."""
    answer = _object(body)
    said, word = _said(answer, speaker)
    kind = QuotaExhaustedError if status == no_credits_status else _BY_STATUS.get(status)
    if kind is None:
        kind = UnavailableError if status >= 500 else BadResponseError if status < 400 else InvalidRequestError
    lead = _redirect(speaker) if status < 400 else _LEAD[kind].format(host=speaker.host)
    answered = status < 500 and status != 408
    return kind(
        f"{lead}{f': {said}' if said else ''} (HTTP {status})",
        transport=Transport.ACCEPTED if answered else Transport.PERHAPS_SENT,
        billed=False if answered else None,
        retry_after=retry_after(headers, seconds_in_body(answer)),
        status=status,
        vendor_code=word,
        vendor_message=said,
        parameter=_parameter(said) if kind is InvalidRequestError else None,
        # 403 is not documented: it may be about this request alone.
        counts_against_account=status != 403,
    )


def not_answered(exc: Exception, speaker: Speaker, *, sent: bool, pays: bool) -> ProviderError:
    """The error for a request without a whole answer; `sent` says whether any of it was written."""
    reason = speaker.clean(str(exc) or type(exc).__name__, limit=300)
    if not sent:
        return UnavailableError(
            f"{speaker.host} could not be reached: {reason}. Nothing was sent.",
            transport=Transport.NOT_SENT,
            billed=False,
        )
    silent = isinstance(exc, TimeoutError | httpx.TimeoutException)
    what = "did not answer in time" if silent else "closed the connection without a whole answer"
    if not pays:
        kind = TimedOutError if silent else UnavailableError
        return kind(f"{speaker.host} {what} ({type(exc).__name__}).", transport=Transport.PERHAPS_SENT)
    return OutcomeUnknownError(
        f"{speaker.host} {what} ({type(exc).__name__}). The request may have been carried out and billed; look at the "
        "vendor's own list before you start it again.",
        transport=Transport.PERHAPS_SENT,
    )


def is_passing(exc: BaseException) -> bool:
    """Whether asking again may help: 429, 502–504, and connections that failed (contract all-images §4)."""
    if not isinstance(exc, ProviderError):
        return False
    lost = exc.status is None and isinstance(exc, UnavailableError | TimedOutError | OutcomeUnknownError)
    return lost or exc.status in _PASSING


def _object(body: bytes) -> JsonObject:
    """The body as a JSON object; an empty one for anything else."""
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _said(answer: JsonObject, speaker: Speaker) -> tuple[str | None, str | None]:
    """The vendor's message and its word for the error, from `{statusCode, error, message}` in all its shapes."""
    message, word = answer.get("message"), answer.get("error")
    lines = message if isinstance(message, list) else [message]
    text = "; ".join(line for line in lines if isinstance(line, str) and line)
    named = speaker.clean(word) if isinstance(word, str) and word else None
    return (speaker.clean(text) if text else named), named


def _parameter(said: str | None) -> str | None:
    """class-validator begins its sentences with the name of the property."""
    found = _PARAMETER.match(said or "")
    return found[1] if found is not None and found[1] in _NAMES else None


_NAMES = frozenset(
    {
        *PARAMS.values(),
        *("name", "mode", "prompt", "additionalPrompt", "optimizePrompt", "params", "processMode", "tags", "metaData"),
    }
)


def _redirect(speaker: Speaker) -> str:
    return f"{speaker.host} redirects, and a request that may pay is never redirected; check {PREFIX}BASE_URL"
