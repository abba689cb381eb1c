"""The rules between the parameters: every problem of a request at once.

Sources: contract all-images §2.1 (what belongs to which mode), §2.2 (`params` are for simple mode). Problems carry the
value, the rule and what is allowed, because the person who reads them has only that to go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from providers.all_images.domains import AllImagesMode

if TYPE_CHECKING:
    from providers.all_images.request import AllImagesRequest

REFERENCE_KEY = "darkroom_reference"
"""Where the task's id travels in `metaData`, which the vendor gives back."""

_TAG_PREFIX = "darkroom:"
FLAG = re.compile(r"(?<!\S)--[A-Za-z]\w*")
"""A Midjourney parameter: two dashes before a word, at the start or after a space."""

SIMPLE_ONLY = (
    "optimize_prompt",
    "template_prompt",
    "format",
    "weather",
    "time",
    "camera",
    "chaos",
    "stylize",
    "interdiction",
    "sujet_mode",
    "angle",
    "photographe",
    "version",
    "from_image_url",
)
"""What has no meaning beside a raw Midjourney prompt."""

_IN_THE_PROMPT = {
    "format": "--ar {}",
    "chaos": "--chaos {}",
    "stylize": "--stylize {}",
    "interdiction": "--no {}",
    "version": "--v {}",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule. `code` is a stable snake_case term, `allowed` what would have been accepted."""

    field: str
    code: str
    message: str
    allowed: tuple[str, ...] = ()


def problems(request: AllImagesRequest) -> list[Problem]:
    """Everything that is wrong with `request` beyond its single values."""
    found = _simple_problems(request) if request.mode is AllImagesMode.SIMPLE else _advanced_problems(request)
    return [*found, *_reserved_problems(request)]


def reference_tag(reference: str) -> str:
    """The tag a generation is found again by."""
    return f"{_TAG_PREFIX}{reference}"


def own_word(word: str) -> str:
    """A word to keep out of the picture. The vendor splits its list at commas, so none can be in a word."""
    if "," in word:
        message = f"'{word}' has a comma in it, which separates words on the wire. Make it one word per list entry."
        raise PydanticCustomError("comma_in_word", "{message}", {"message": message, "allowed": _parts(word)})
    return word


def own_tag(tag: str) -> str:
    """A tag of the caller's own: those that begin with `darkroom:` are ours, and money depends on them."""
    if tag.startswith(_TAG_PREFIX):
        message = f"'{tag}' begins with {_TAG_PREFIX}, which Darkroom keeps for finding its own generations again."
        raise PydanticCustomError("reserved", "{message}", {"message": message, "allowed": []})
    return tag


def _parts(word: str) -> list[str]:
    return [part for part in (each.strip() for each in word.split(",")) if part]


def _simple_problems(request: AllImagesRequest) -> Iterator[Problem]:
    flags = list(dict.fromkeys(match[0] for match in FLAG.finditer(request.prompt)))
    if flags:
        yield Problem(
            "prompt",
            "flags_need_advanced_mode",
            f"The prompt has Midjourney parameters ({', '.join(flags[:10])}), and mode SIMPLE takes plain text. Use "
            "mode ADVANCED, or the parameters format, chaos, stylize and interdiction instead.",
            ("mode ADVANCED", "a prompt without --parameters"),
        )


def _advanced_problems(request: AllImagesRequest) -> Iterator[Problem]:
    for field in SIMPLE_ONLY:
        value = getattr(request, field)
        if value is None:
            continue
        text = ", ".join(value) if isinstance(value, list) else str(value)
        flag = _IN_THE_PROMPT.get(field)
        instead = f", or write {flag.format(text)} in the prompt" if flag else ""
        yield Problem(
            field, "requires_simple_mode", f"{field} is for mode SIMPLE. Leave it out in mode ADVANCED{instead}."
        )


def _reserved_problems(request: AllImagesRequest) -> Iterator[Problem]:
    if request.meta_data is not None and REFERENCE_KEY in request.meta_data:
        yield Problem(
            "meta_data", "reserved", f"The name {REFERENCE_KEY} is Darkroom's own: choose another one in metaData."
        )
