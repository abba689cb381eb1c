"""Answers to requests that never became GraphQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

CODES: Mapping[int, str] = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "REQUEST_TOO_LARGE",
    429: "TOO_MANY_CONNECTIONS",
    500: "UNAVAILABLE",
    503: "UNAVAILABLE",
}


def refusal(status: int, message: str) -> Response:
    """An answer to a request that never became GraphQL, in GraphQL's form."""
    body: dict[str, Any] = {"errors": [{"message": message, "extensions": {"code": CODES.get(status, "BAD_REQUEST")}}]}
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
