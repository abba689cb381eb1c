"""What is looked at, and what has been found."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import orjson
from rich.text import Text

from graph.doctor.remedies import BY_STATUS, ROUTE

PORTS = range(1, 1 << 16)
WIDEST = 23
"""Letters of the longest name of a check."""


class NoSiteError(ValueError):
    """That is no address of a server."""


class FaultError(Exception):
    """Something is wrong; `remedy` is how it is mended."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class UnseenError(Exception):
    """There was nothing to look at, which is no fault."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found. `ok` is None where there was nothing to look at."""

    name: str
    ok: bool | None
    message: str
    remedy: str = ""


def line(finding: Finding) -> Text:
    """A finding as a person reads it."""
    mark, colour = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[finding.ok]
    text = Text.assemble((mark, colour), f" {finding.name:{WIDEST}} ", (finding.message, "" if finding.ok else colour))
    if finding.remedy:
        text.append(f"\n  {'':{WIDEST}} {finding.remedy}")
    return text


@dataclass(frozen=True, slots=True)
class Site:
    """Where a Darkroom is said to be. `url` may be shown: it has neither a login nor a query."""

    url: str
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers; empty without a login."""

    @classmethod
    def of(cls, text: str) -> Site:
        """From what a person typed, with or without `/graphql`. Raises `NoSiteError`."""
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host or (url.port is not None and url.port not in PORTS):
            shown = text.rpartition("@")[2].partition("?")[0]
            raise NoSiteError(f"{shown!r} is not the address of a server. Write one like https://darkroom.example.com")
        login = {}
        if url.username:
            words = f"{url.username}:{url.password}"
            login["authorization"] = f"Basic {b64encode(words.encode()).decode()}"
        return cls(origin(url) + url.path.rstrip("/").removesuffix("/graphql"), login)

    @property
    def parts(self) -> httpx.URL:
        """The address in its parts."""
        return httpx.URL(self.url)

    @property
    def tls(self) -> bool:
        """Whether it is reached over TLS."""
        return self.parts.scheme == "https"

    @property
    def port(self) -> int:
        """Where somebody should listen."""
        return self.parts.port or (443 if self.tls else 80)


def origin(url: httpx.URL) -> str:
    """What a browser calls the pages of a server; the usual ports are left out."""
    return f"{url.scheme}://{url.netloc.decode()}"


def said(content: bytes) -> str | None:
    """What a Darkroom says is wrong; None if it is not a Darkroom that speaks."""
    try:
        return str(orjson.loads(content)["errors"][0]["message"])
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        return None


def unexpected(what: str, status: int, content: bytes) -> FaultError:
    """An answer that does not fit."""
    message = said(content)
    words = f"{what} was answered with HTTP {status}" + (f": {message}" if message else "")
    return FaultError(words, BY_STATUS.get(status, ROUTE))
