"""What the vendor and httpx say, converted into `providers.errors`: here and nowhere else.

Sources: contract openai-images §4.1 (both body shapes, and errors in mid-stream), §4.2 (statuses and codes).

What is billed: a refusal (3xx, 4xx) is not; a failure on their side (5xx), the gateway's 408 and 424, a generation
that failed while it was made, and a picture refused after it was made may be. What was sent: nothing before the
request's first byte was written, perhaps everything until an answer begins; from then on the provider has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import httpx
import orjson
from pydantic import JsonValue

from providers.errors import (
    BadResponseError,
    InvalidRequestError,
    OutcomeUnknownError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    TimedOutError,
    Transport,
    UnauthorizedError,
    UnavailableError,
)
from providers.retry_after import retry_after, seconds_in_body, seconds_in_text
from providers.speaker import Speaker

_BY_WORD: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        "moderation_blocked": RefusedError,
        "content_policy_violation": RefusedError,
        "content_filter": RefusedError,
        "insufficient_quota": QuotaExhaustedError,
        "billing_hard_limit_reached": QuotaExhaustedError,
        "project_spend_limit_exceeded": QuotaExhaustedError,
        "rate_limit_exceeded": RateLimitedError,
        "invalid_api_key": UnauthorizedError,
        "AuthorizationError": UnauthorizedError,
        "model_not_found": InvalidRequestError,
        "image_generation_server_error": UnavailableError,
        "image_generation_failed": UnavailableError,
        "server_error": UnavailableError,
        "image_generation_user_error": InvalidRequestError,
    }
)
"""By the vendor's code, then by its type; what is not listed goes by status."""

_BY_STATUS: Mapping[int, type[ProviderError]] = MappingProxyType(
    {
        401: UnauthorizedError,
        402: QuotaExhaustedError,
        403: UnauthorizedError,
        405: BadResponseError,
        408: TimedOutError,
        409: UnavailableError,
        424: UnavailableError,
        429: RateLimitedError,
        504: TimedOutError,
    }
)

_PASSED_ON = frozenset({408, 424})
"""A gateway's own words for a provider behind it that was late or failed: the request had been passed on."""

_IN_THE_MAKING = frozenset({"image_generation_server_error", "image_generation_failed", "server_error"})
"""Codes and types of a generation that had begun, whatever the status is."""

_LEAD: Mapping[type[ProviderError], str] = MappingProxyType(
    {
        InvalidRequestError: "{host} refused the request",
        RefusedError: "The safety system of {host} refused the request",
        UnauthorizedError: "{host} did not accept this server's token for this (DARKROOM_OPENAI_IMAGES_TOKEN)",
        QuotaExhaustedError: "The account at {host} has no quota left",
        RateLimitedError: "{host} is receiving too many requests",
        UnavailableError: "{host} failed on its own side",
        TimedOutError: "{host} took too long",
        BadResponseError: "There is no images API at this address on {host} (DARKROOM_OPENAI_IMAGES_BASE_URL)",
    }
)


class _NoRetryRateLimitedError(RateLimitedError):
    retryable = False  # it said x-should-retry: false


class _NoRetryUnavailableError(UnavailableError):
    retryable = False


class _NoRetryTimedOutError(TimedOutError):
    retryable = False


_NO_RETRY: Mapping[type[ProviderError], type[ProviderError]] = MappingProxyType(
    {
        RateLimitedError: _NoRetryRateLimitedError,
        UnavailableError: _NoRetryUnavailableError,
        TimedOutError: _NoRetryTimedOutError,
    }
)


@dataclass(frozen=True, slots=True)
class Said:
    """What the vendor said, from whichever shape it said it in; without the token, should it have repeated that."""

    message: str | None = None
    type: str | None = None
    code: str | None = None
    parameter: str | None = None
    categories: tuple[str, ...] = ()
    stage: str | None = None
    retry_after: float | None = None


def refusal(status: int, headers: httpx.Headers, body: bytes, speaker: Speaker) -> ProviderError:
    """The error for an answer that is no success."""
    said = _said(_json(body), speaker)
    kind = _kind(status, said, headers.get("x-should-retry"))
    if 300 <= status < 400:
        message = _redirect(status, headers, speaker)
    else:
        message = _message(kind, said, speaker, f"HTTP {status}")
    answered = status < 500 and status not in _PASSED_ON
    worked = said.stage == "output" or not _IN_THE_MAKING.isdisjoint((said.code, said.type))
    return kind(
        message,
        transport=Transport.ACCEPTED if answered else Transport.PERHAPS_SENT,
        billed=False if answered and not worked else None,
        retry_after=retry_after(headers, said.retry_after),
        status=status,
        vendor_code=said.code or said.type,
        vendor_message=said.message,
        request_id=headers.get("x-request-id"),
        parameter=said.parameter or ("model" if said.code == "model_not_found" else None),
        # 403 is about the model: another one may work with the same token.
        counts_against_account=status != 403,
    )


def failure_in_answer(payload: Mapping[str, JsonValue], speaker: Speaker, *, billed: bool | None) -> ProviderError:
    """The error for an error object inside an answer that began as a success."""
    said = _said(dict(payload), speaker)
    kind = _BY_WORD.get(said.code or "") or _BY_WORD.get(said.type or "") or _by_name(said.type)
    return kind(
        _message(kind, said, speaker, "in its answer"),
        transport=Transport.ACCEPTED,
        billed=billed,
        retry_after=said.retry_after,
        vendor_code=said.code or said.type,
        vendor_message=said.message,
        parameter=said.parameter,
    )


def not_answered(exc: Exception, speaker: Speaker, *, sent: bool) -> ProviderError:
    """The error for a request that got no answer at all; `sent` says whether any of it was written."""
    reason = speaker.clean(str(exc) or type(exc).__name__, limit=300)
    if not sent:
        return UnavailableError(
            f"{speaker.host} could not be reached: {reason}. Nothing was sent.",
            transport=Transport.NOT_SENT,
            billed=False,
        )
    silent = isinstance(exc, TimeoutError | httpx.TimeoutException)
    what = "did not answer in time" if silent else "closed the connection without an answer"
    return OutcomeUnknownError(
        f"{speaker.host} {what} ({type(exc).__name__}). The picture may have been made and billed; "
        "look at the provider's usage page before you start it again.",
        transport=Transport.PERHAPS_SENT,
    )


def _kind(status: int, said: Said, should_retry: str | None) -> type[ProviderError]:
    named = _BY_WORD.get(said.code or "") or _BY_WORD.get(said.type or "")
    kind = named or _BY_STATUS.get(status)
    if kind is None:
        if status >= 500:
            kind = UnavailableError
        elif status < 400 or (status == 404 and said.message is None):
            kind = BadResponseError
        else:
            kind = UnavailableError if should_retry == "true" else InvalidRequestError
    return _NO_RETRY.get(kind, kind) if should_retry == "false" else kind


def _by_name(type_: str | None) -> type[ProviderError]:
    """For an error in mid-stream, which has no status to go by."""
    return InvalidRequestError if type_ == "invalid_request_error" else UnavailableError


def _message(kind: type[ProviderError], said: Said, speaker: Speaker, where: str) -> str:
    lead = next(text for base, text in _LEAD.items() if issubclass(kind, base)).format(host=speaker.host)
    parts = [f"{lead}: {said.message}" if said.message else lead]
    if said.categories:
        parts.append(f"categories: {', '.join(said.categories)}")
    parts.append(", ".join(part for part in (where, said.code or said.type) if part))
    return f"{parts[0]} ({'; '.join(parts[1:])})"


def _redirect(status: int, headers: httpx.Headers, speaker: Speaker) -> str:
    try:
        target = httpx.URL(headers.get("Location", "")).host
    except httpx.InvalidURL:
        target = ""
    return (
        f"{speaker.host} redirects to {target or 'another address'} (HTTP {status}), and a request that pays is never "
        "redirected. Set DARKROOM_OPENAI_IMAGES_BASE_URL to the final address."
    )


def _json(body: bytes) -> JsonValue:
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value


def _said(body: JsonValue, speaker: Speaker) -> Said:
    if not isinstance(body, dict):
        return Said()

    def text(value: JsonValue) -> str | None:
        found = _text(value)
        return None if found is None else speaker.clean(found)

    inner = body.get("error")
    error = inner if isinstance(inner, dict) else body
    detail = inner if isinstance(inner, str) else body.get("detail")
    moderation = error.get("moderation_details")
    details = moderation if isinstance(moderation, dict) else {}
    categories = details.get("categories")
    message = text(error.get("message")) or text(body.get("message")) or text(detail)
    return Said(
        message=message,
        type=text(error.get("type")),
        code=text(error.get("code")),
        parameter=text(error.get("param")),
        categories=tuple(filter(None, map(text, categories))) if isinstance(categories, list) else (),
        stage=text(details.get("moderation_stage")),
        retry_after=seconds_in_body(error) or seconds_in_body(body) or seconds_in_text(message),
    )


def _text(value: JsonValue) -> str | None:
    """Codes come as numbers too."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
