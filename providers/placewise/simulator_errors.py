"""How the simulated Placewise says no: contract placewise §4.1 and §4.2."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import orjson
from pydantic import JsonValue
from starlette.responses import Response

from providers.sandbox.script import Script, ScriptError

INVALID_PARAMETERS = "Invalid parameters"
_EMPTY = frozenset({400, 444})
"""Invalid JSON has an empty answer; what the firewall answers is not documented, and assumed to be empty."""

_MESSAGES: Mapping[int, str] = MappingProxyType(
    {
        401: "Invalid client authorization token",
        402: "Image generation is not enabled for this loyalty club",
        403: "Missing permit: ML:ImageGeneration:Post",
        404: "Not found",
        405: "Action not possible",
        422: INVALID_PARAMETERS,
        429: "Too many requests",
        460: "Invalid OAuth token",
        470: "Missing required header",
        471: "Incorrect header",
        503: "Service is under maintenance",
    }
)
_SERVER_FAULT = "Internal server error"


class Refusal(Exception):
    """A request the vendor turns down. `details` is the tree of a 422."""

    def __init__(self, status: int, message: str | None = None, details: Mapping[str, JsonValue] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message or _MESSAGES.get(status, _SERVER_FAULT if status >= 500 else "Request not accepted")
        self.details = dict(details or {})


def leaf(
    value: JsonValue, symbol: str, message: str, options: Mapping[str, JsonValue] | None = None
) -> dict[str, JsonValue]:
    """One problem of one parameter, as the tree of a 422 holds it."""
    return {"value": value, "error": symbol, "options": dict(options or {}), "message": message}


def scripted_refusal(script: Script) -> Refusal:
    """The failure a script asks for. A 422 with a `code` has a tree that says so about the prompt."""
    status = script.status or 500
    if status == 422 and script.code is not None:
        problem = leaf("…", script.code, script.message or script.code.replace("_", " "))
        return Refusal(422, INVALID_PARAMETERS, {"prompt": [problem]})
    return Refusal(status, script.message)


def refused(refusal: Refusal, script: Script) -> Response:
    """The HTTP answer to a refused request."""
    headers = {} if script.retry_after is None else {"Retry-After": f"{script.retry_after:g}"}
    if script.error_shape == "html":
        page = f"<html><head><title>{refusal.status}</title></head><body><h1>{refusal.status}</h1></body></html>"
        return Response(page, refusal.status, headers, "text/html")
    if script.error_shape == "empty" or (refusal.status in _EMPTY and script.message is None):
        return Response(b"", refusal.status, headers)
    body: dict[str, JsonValue] = {"error": refusal.message}
    if refusal.details:
        body["details"] = refusal.details
    if script.extra_fields:
        body["x_sandbox"] = {"nested": [None, 1.5, {"deep": True}]}
    return Response(orjson.dumps(body), refusal.status, headers, "application/json")


def bad_script(error: ScriptError) -> Response:
    """A script that cannot be followed is explained, in the vendor's shape so that clients show it."""
    return refused(Refusal(422, str(error)), Script())
