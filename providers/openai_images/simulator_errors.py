"""How the simulated vendor, and the gateway before it, say no: contract openai-images §2.3, §4.1 and §4.2."""

from __future__ import annotations

from typing import NamedTuple

import orjson
from pydantic import JsonValue
from starlette.responses import Response

from providers.openai_images.simulator_validation import Refusal
from providers.sandbox.script import Script, ScriptError


class _Kind(NamedTuple):
    type: str
    code: str | None
    message: str


_BY_STATUS = {
    400: _Kind("invalid_request_error", None, "The request is not valid."),
    401: _Kind("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: _Kind("invalid_request_error", None, "Your organization must be verified to use this model."),
    404: _Kind("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    408: _Kind("timeout_error", None, "The model did not produce its first token in time."),
    409: _Kind("invalid_request_error", None, "Another request holds the lock on this resource."),
    429: _Kind("requests", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
}
_SERVER_FAULT = _Kind("server_error", None, "The server had an error while processing your request.")
_BY_CODE = {
    "content_policy_violation": _Kind(
        "invalid_request_error", "content_policy_violation", "Your request was rejected by the content policy."
    ),
    "billing_hard_limit_reached": _Kind(
        "invalid_request_error", "billing_hard_limit_reached", "Billing hard limit has been reached."
    ),
    "insufficient_quota": _Kind("insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
    "project_spend_limit_exceeded": _Kind(
        "insufficient_quota", "project_spend_limit_exceeded", "This project has reached its spend limit."
    ),
    "image_generation_server_error": _Kind(
        "image_generation_server_error", "image_generation_server_error", "The image could not be generated."
    ),
    "image_generation_failed": _Kind(
        "image_generation_server_error", "image_generation_failed", "The image could not be generated."
    ),
}


def moderation_blocked(script: Script) -> Refusal:
    """The safety system's refusal, with its findings."""
    found = ", ".join(script.categories)
    return Refusal(
        script.message or f"Your request was rejected by the safety system. safety_violations=[{found}].",
        param=None,
        code="moderation_blocked",
        type_="image_generation_user_error",
        details={"moderation_stage": script.refuse or "output", "categories": list(script.categories)},
    )


def scripted_refusal(script: Script) -> Refusal:
    """The failure a script asks for, with whatever it leaves open filled in as usual for code and status."""
    status = script.status or 500
    if script.code == "moderation_blocked":
        refusal = moderation_blocked(script)
        refusal.status = status
        return refusal
    kind = _BY_CODE.get(script.code or "") or _BY_STATUS.get(status) or _SERVER_FAULT
    return Refusal(
        script.message or kind.message, param=None, code=script.code or kind.code, type_=kind.type, status=status
    )


def scripted_error(script: Script) -> dict[str, JsonValue]:
    """The same as the `error` object of a mid-stream event."""
    return _error(scripted_refusal(script))


def refused(refusal: Refusal, headers: dict[str, str], *, shape: str) -> Response:
    """The HTTP answer to a refused request. `shape` is a script's `error_shape`."""
    if shape == "html":
        page = f"<html><head><title>{refusal.status}</title></head><body><h1>{refusal.status}</h1></body></html>"
        return Response(page, refusal.status, headers, "text/html")
    if shape == "empty":
        return Response(b"", refusal.status, headers)
    body: dict[str, JsonValue] = {"error": _error(refusal)}
    if shape == "truefoundry":
        error: dict[str, JsonValue] = {"message": refusal.message, "type": _gateway_type(refusal), "code": refusal.code}
        if refusal.code is None:
            error["code"] = refusal.status
        body = {"status": "failure", "message": refusal.message, "error": error}
    return Response(orjson.dumps(body), refusal.status, headers, "application/json")


def bad_script(error: ScriptError, headers: dict[str, str]) -> Response:
    """A script that cannot be followed is explained, in the vendor's shape so that clients show it."""
    refusal = Refusal(str(error), param=error.source, code="invalid_script", type_="sandbox_error")
    return refused(refusal, headers, shape="openai")


def _error(refusal: Refusal) -> dict[str, JsonValue]:
    error: dict[str, JsonValue] = {
        "message": refusal.message,
        "type": refusal.type,
        "param": refusal.param,
        "code": refusal.code,
    }
    if refusal.details:
        error["moderation_details"] = refusal.details
    return error


def _gateway_type(refusal: Refusal) -> str:
    return "AuthorizationError" if refusal.status in {401, 403} else refusal.type
