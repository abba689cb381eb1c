"""Global ids: opaque to clients, unique over all types (the Relay `Node` specification)."""

from __future__ import annotations

import base64
import binascii

from graph.errors import RequestError


def encode(kind: str, key: str) -> str:
    """The global id of the `kind` with this key."""
    return base64.urlsafe_b64encode(f"{kind}:{key}".encode()).decode().rstrip("=")


def decode(id: str) -> tuple[str, str]:
    """The kind and the key in a global id. Raises `RequestError` for text that is none."""
    try:
        kind, separator, key = base64.urlsafe_b64decode(id + "=" * (-len(id) % 4)).decode().partition(":")
    except (ValueError, binascii.Error) as exc:
        raise _invalid(id) from exc
    if not separator or not key.isprintable():
        raise _invalid(id)
    return kind, key


def key(id: str, kind: str) -> str:
    """The key in a global id of this kind. Raises `RequestError` for an id of another kind, or for none at all."""
    found, value = decode(id)
    if found != kind:
        raise _invalid(id, f" It is the id of a {found}; this field takes the id of a {kind}.")
    return value


def _invalid(id: str, more: str = "") -> RequestError:
    shown = id if len(id) <= 80 else id[:77] + "…"
    return RequestError("INVALID_ID", f"{shown!r} is not a valid id here.{more} Use an `id` from an earlier answer.")
