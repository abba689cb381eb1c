"""Origins: what browsers call the pages of a server, and how people write them."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

EVERY = "*"
USUAL_PORTS = {"http": 80, "https": 443}
EXAMPLE = "write one like https://app.example.com, with its port if it has one, and without a path"


def listed(text: str) -> object:
    """The origins in a text: a JSON list, or with commas or spaces between them."""
    if not text.lstrip().startswith("["):
        return [one for one in re.split(r"[\s,]+", text) if one]
    try:
        return json.loads(text)
    except ValueError as exc:
        raise ValueError(f"that is no JSON list ({exc}); origins with commas between them do as well") from exc


def normal(text: str) -> str:
    """An origin as browsers send it: lower case, no slash at the end, no usual port. `*` is every origin."""
    if text.strip() == EVERY:
        return EVERY
    if text.strip().lower() == "null":
        raise ValueError("'null' is no page of yours: anybody's can have it; serve the page from an address")
    shown = text.rpartition("@")[2].partition("?")[0]
    try:
        parts = urlsplit(text.strip())
        port, host = parts.port, parts.hostname
    except ValueError as exc:
        raise ValueError(f"{shown!r} is no origin; {EXAMPLE}") from exc
    more = parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None
    if not parts.scheme or not host or more:
        raise ValueError(f"{shown!r} is no origin; {EXAMPLE}")
    if EVERY in host:
        raise ValueError(f"{shown!r} stands for no page; write each origin by itself, or {EVERY} alone for all")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + ("" if port in (None, USUAL_PORTS.get(parts.scheme)) else f":{port}")
