"""How the simulated vendor says no: NestJS's body, in the shapes it really comes in (contract all-images §4)."""

from __future__ import annotations

from http import HTTPStatus

import orjson
from pydantic import JsonValue
from starlette.responses import Response

from providers.all_images.simulator_validation import Refusal
from providers.sandbox.script import Script, ScriptError

_USUAL = {
    400: "The request is not valid.",
    401: "Unauthorized",
    402: "Not enough credits.",
    429: "ThrottlerException: Too Many Requests",
    500: "Internal server error",
}


def scripted_refusal(script: Script) -> Refusal:
    """The failure a script asks for: `code` is the field `error`, a `message` with semicolons is a list."""
    status = script.status or 500
    message = script.message or _USUAL.get(status) or _phrase(status)
    lines = [line.strip() for line in message.split(";")]
    return Refusal(status, lines if len(lines) > 1 else message, script.code)


def refused(refusal: Refusal, script: Script) -> Response:
    """The HTTP answer to a refused request."""
    headers = {} if script.retry_after is None else {"retry-after": f"{script.retry_after:g}"}
    if script.error_shape == "html":
        page = f"<html><head><title>{refusal.status}</title></head><body><h1>{refusal.status}</h1></body></html>"
        return Response(page, refusal.status, headers, "text/html")
    if script.error_shape == "empty":
        return Response(b"", refusal.status, headers)
    lines: JsonValue = [*refusal.message] if isinstance(refusal.message, list) else refusal.message
    body: dict[str, JsonValue] = {"statusCode": refusal.status, "message": lines}
    if refusal.message != "Unauthorized":  # NestJS leaves it out where it would only repeat the message
        body["error"] = refusal.error or _phrase(refusal.status)
    return Response(orjson.dumps(body), refusal.status, headers, "application/json")


def bad_script(error: ScriptError) -> Response:
    """A script that cannot be followed is explained, in the vendor's shape so that clients show it."""
    return refused(Refusal(400, [str(error)], "Sandbox"), Script())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
