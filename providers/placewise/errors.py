"""What Placewise and httpx say, converted into `providers.errors`: here and nowhere else.

Sources: contract placewise §4.1 (statuses, and that some bodies are empty), §4.2 (the tree of a 422).

Only 429, 503 and connections that were never made are worth another try; every other refusal would come again.
What is billed: a refusal (3xx, 4xx) is not, a failure on their side (5xx, 408) may be. What was sent: nothing before
the request's first byte was written, perhaps everything until an answer begins; from then on the vendor has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType

import httpx
import orjson
from pydantic import JsonValue

from providers.errors import (
    BadResponseError,
    InvalidRequestError,
    OutcomeUnknownError,
    ParameterProblem,
    ProviderError,
    RateLimitedError,
    RefusedError,
    TimedOutError,
    Transport,
    UnauthorizedError,
    UnavailableError,
)
from providers.placewise.rules import PREFIX
from providers.retry_after import retry_after, seconds_in_body

_MOST_LEAVES = 50
_DEEPEST = 12


class FailedError(UnavailableError):
    """The vendor failed in a way that another try does not mend."""

    retryable = False


class _TooSlowError(TimedOutError):
    retryable = False


@dataclass(frozen=True, slots=True)
class _Meaning:
    kind: type[ProviderError]
    lead: str


_TOKENS = f"{PREFIX}CLIENT_TOKEN, {PREFIX}USER_TOKEN"
_BY_STATUS: Mapping[int, _Meaning] = MappingProxyType(
    {
        400: _Meaning(InvalidRequestError, "{host} could not read the request"),
        401: _Meaning(
            UnauthorizedError,
            f"{{host}} did not accept this server's token, or not for this loyalty club and product ({_TOKENS}, "
            f"{PREFIX}LOYALTY_CLUB_SLUG, {PREFIX}PRODUCT_NAME)",
        ),
        402: _Meaning(
            UnauthorizedError,
            "Image generation is not enabled or not configured for this loyalty club at {host} "
            f"({PREFIX}LOYALTY_CLUB_SLUG); ask the vendor to enable it",
        ),
        403: _Meaning(
            UnauthorizedError,
            f"This server's token at {{host}} lacks the permit ML:ImageGeneration:Post ({_TOKENS})",
        ),
        404: _Meaning(InvalidRequestError, "{host} does not know what the request refers to"),
        405: _Meaning(InvalidRequestError, "{host} says that this cannot be done"),
        406: _Meaning(InvalidRequestError, "{host} could not read the request"),
        408: _Meaning(_TooSlowError, "{host} took too long"),
        422: _Meaning(InvalidRequestError, "{host} refused the parameters"),
        429: _Meaning(RateLimitedError, "{host} is receiving too many requests"),
        444: _Meaning(
            RefusedError,
            "The firewall of {host} rejected the request; most likely something in the prompt looks like an attack, "
            "such as markup or code",
        ),
        460: _Meaning(UnauthorizedError, f"{{host}} did not accept the user's token ({PREFIX}USER_TOKEN)"),
        470: _Meaning(
            UnauthorizedError,
            f"{{host}} misses a required header ({PREFIX}LOYALTY_CLUB_SLUG, {PREFIX}USER_AGENT, {PREFIX}PRODUCT_NAME)",
        ),
        471: _Meaning(
            UnauthorizedError,
            f"{{host}} finds a header incorrect ({PREFIX}LOYALTY_CLUB_SLUG, {PREFIX}USER_AGENT, "
            f"{PREFIX}PRODUCT_NAME, {PREFIX}CUSTOMER, {PREFIX}LOCALE)",
        ),
        503: _Meaning(UnavailableError, "{host} is down for maintenance"),
        504: _Meaning(_TooSlowError, "{host} took too long"),
    }
)
_NO_SUCH_PLACE = _Meaning(BadResponseError, f"There is no such API at this address on {{host}} ({PREFIX}BASE_URL)")
_SERVER_FAULT = _Meaning(FailedError, "{host} failed on its own side")
_OTHER_REFUSAL = _Meaning(InvalidRequestError, "{host} refused the request")


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who said it: the host for messages, and the tokens that must never be part of one."""

    host: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def redacted(self, body: bytes) -> bytes:
        """A body without the tokens: before anything in it is shortened, and half a token is left."""
        for secret in self.secrets:
            body = body.replace(secret.encode(), b"[token]")
        return body

    def clean(self, text: str, limit: int = 1000) -> str:
        """`text` on one line, without the tokens, and cut to `limit` characters."""
        for secret in self.secrets:
            text = text.replace(secret, "[token]")
        text = " ".join(text.split())
        return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One parameter that the vendor refused: where it is in the request, and why."""

    path: tuple[str, ...]
    symbol: str | None
    text: str


def refusal(status: int, headers: httpx.Headers, body: bytes, speaker: Speaker) -> ProviderError:
    """The error for an answer to the create call that is no success."""
    said = _json(speaker.redacted(body))
    leaves = list(islice(_walk(said.get("details"), ()), _MOST_LEAVES)) if isinstance(said, dict) else []
    message = _message(said)
    meaning = _meaning(status, message)
    lead = _redirect(status, headers, speaker) if 300 <= status < 400 else meaning.lead.format(host=speaker.host)
    problems = "; ".join(f"{'.'.join(leaf.path)}: {leaf.text}" for leaf in leaves)
    parts = [lead, *(speaker.clean(part, limit=4000) for part in (message, problems) if part)]
    answered = status < 500 and status != 408
    return meaning.kind(
        f"{': '.join(parts)} (HTTP {status})",
        transport=Transport.ACCEPTED if answered else Transport.PERHAPS_SENT,
        billed=False if answered else None,
        retry_after=retry_after(headers, seconds_in_body(said) if isinstance(said, dict) else None),
        status=status,
        vendor_code=speaker.clean(leaves[0].symbol) if leaves and leaves[0].symbol else None,
        vendor_message=speaker.clean(message) if message else None,
        request_id=headers.get("x-request-id"),
        problems=tuple(_problem(leaf, speaker) for leaf in leaves),
        parameter=next((speaker.clean(leaf.path[0], limit=100) for leaf in leaves if leaf.path), None),
    )


def _problem(leaf: Leaf, speaker: Speaker) -> ParameterProblem:
    return ParameterProblem(tuple(speaker.clean(part, limit=100) for part in leaf.path), speaker.clean(leaf.text))


def not_answered(exc: Exception, speaker: Speaker, *, sent: bool) -> ProviderError:
    """The error for a create call that got no answer at all; `sent` says whether any of it was written."""
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
        f"{speaker.host} {what} ({type(exc).__name__}). The picture may have been ordered and billed; ask the vendor "
        "before you start it again.",
        transport=Transport.PERHAPS_SENT,
    )


def _meaning(status: int, message: str | None) -> _Meaning:
    if status < 400 or (status == 404 and message is None):
        return _NO_SUCH_PLACE
    return _BY_STATUS.get(status) or (_SERVER_FAULT if status >= 500 else _OTHER_REFUSAL)


def _redirect(status: int, headers: httpx.Headers, speaker: Speaker) -> str:
    try:
        target = httpx.URL(headers.get("Location", "")).host
    except httpx.InvalidURL:
        target = ""
    return (
        f"{speaker.host} redirects to {target or 'another address'}, and a request that pays is never redirected. "
        f"Set {PREFIX}BASE_URL to the final address"
    )


def _json(body: bytes) -> JsonValue:
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value


def _message(said: JsonValue) -> str | None:
    """Documented is `{"error": "…"}`; its neighbours in other APIs are read as well."""
    if not isinstance(said, dict):
        return None
    error = said.get("error")
    candidates = [error, error.get("message") if isinstance(error, dict) else None, said.get("message")]
    return next((text for text in candidates if isinstance(text, str) and text), None)


def _walk(node: JsonValue, path: tuple[str, ...]) -> Iterator[Leaf]:
    """Every leaf of the tree that mirrors the request; members of a list are keyed by their index."""
    if len(path) > _DEEPEST:
        return
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _walk(child, (*path, name))
    elif isinstance(node, list):
        for entry in node:
            if isinstance(entry, dict):
                yield _leaf(entry, path)
            elif isinstance(entry, str):
                yield Leaf(path, None, entry)
    elif isinstance(node, str):
        yield Leaf(path, None, node)


def _leaf(entry: dict[str, JsonValue], path: tuple[str, ...]) -> Leaf:
    symbol, message, options = entry.get("error"), entry.get("message"), entry.get("options")
    text = message if isinstance(message, str) and message else str(symbol or "not valid").replace("_", " ")
    notes = [] if options in (None, {}, []) else [_shown(options)]
    if "value" in entry:
        notes.append(f"got {_shown(entry['value'])}")
    known = symbol if isinstance(symbol, str) else None
    if known is not None and known != text:
        notes.insert(0, known)
    return Leaf(path, known, f"{text} ({', '.join(notes)})" if notes else text)


def _shown(value: JsonValue) -> str:
    """Short enough for a message: a refused prompt may be long."""
    text = orjson.dumps(value).decode() if not isinstance(value, dict) else _pairs(value)
    return text if len(text) <= 100 else text[:99] + "…"


def _pairs(options: dict[str, JsonValue]) -> str:
    return ", ".join(f"{name}: {_listed(value)}" for name, value in options.items())


def _listed(value: JsonValue) -> str:
    return " | ".join(map(str, value)) if isinstance(value, list) else str(value)
