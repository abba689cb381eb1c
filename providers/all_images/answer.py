"""What the vendor answers, read leniently: an unknown field is ignored, a missing one survived.

Sources: contract all-images §3.1 (generation), §3.2 (image), §5 (status).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import httpx
from pydantic import JsonValue

from providers.all_images.rules import REFERENCE_KEY, reference_tag
from providers.http import is_loopback

JsonObject: TypeAlias = dict[str, JsonValue]


class Status(IntEnum):
    """The states the vendor names; any other number is one that goes on."""

    CREATE = 0
    PENDING = 1
    PROCESSING = 2
    DONE = 3
    ERROR = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a generation. `url` leads to a preview, `full_url` to the picture itself."""

    id: str | None
    url: str | None
    full_url: str | None
    free: bool

    @property
    def key(self) -> str | None:
        """What tells it apart from the others."""
        return self.id or self.url or self.full_url


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation as the vendor tells it."""

    id: str | None
    status: int | None
    prompt: str | None
    pictures: tuple[Picture, ...]
    tags: tuple[str, ...]
    reference: str | None

    def is_of(self, reference: str) -> bool:
        """Whether it was made for the task `reference`."""
        if self.reference is not None:
            return self.reference == reference
        return reference_tag(reference) in self.tags

    @property
    def state(self) -> str:
        """The vendor's word for where it is."""
        try:
            return Status(-1 if self.status is None else self.status).name.capitalize()
        except ValueError:
            return f"status {self.status}"


def generation_of(value: JsonObject) -> Generation:
    """Read a generation; what has the wrong type counts as missing."""
    status, tags, meta = value.get("status"), value.get("tags"), value.get("metaData")
    reference = meta.get(REFERENCE_KEY) if isinstance(meta, dict) else None
    images = value.get("images")
    return Generation(
        id=_text(value.get("id")),
        status=status if isinstance(status, int) and not isinstance(status, bool) else None,
        prompt=_text(value.get("prompt")),
        pictures=tuple(_picture(image) for image in images if isinstance(image, dict))
        if isinstance(images, list)
        else (),
        tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        reference=_text(reference),
    )


def _picture(value: JsonObject) -> Picture:
    return Picture(
        id=_text(value.get("id")),
        url=_link(value.get("url")),
        full_url=_link(value.get("urlFull")),
        free=value.get("free") is True,
    )


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None


def _link(value: JsonValue) -> str | None:
    """A link, over https where the vendor's sample says http (contract all-images §3.2)."""
    link = _text(value)
    if link is None:
        return None
    try:
        url = httpx.URL(link)
    except httpx.InvalidURL:
        return link  # whoever fetches it says what is wrong with it
    plain = url.scheme == "http" and url.port is None and not is_loopback(url.host)
    return str(url.copy_with(scheme="https")) if plain else link
