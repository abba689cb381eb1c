"""Setting a prompt in type: as large as fits, wrapped at words, cut with an ellipsis only when it must be."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageFont

_LONGEST = 1200
"""Characters beyond this cannot fit on a picture in legible type; measuring them would only cost time."""
_PLAIN = str.maketrans(
    {
        "—": " - ", "–": "-", "‐": "-", "‑": "-", "•": "·", "×": "x", "€": "EUR", "ß": "ss", "æ": "ae", "Æ": "AE",
        "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "„": "“", "‚": "‘",
        "«": "“", "»": "”", "\u00a0": " ", "\u202f": " ", "\ufe0f": "", "\u200d": " ",
    }
)  # fmt: skip
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "Arial Unicode.ttf", "msyh.ttc", "PingFang.ttc")
"""Looked for among the system's fonts, when a prompt has letters that Pillow's own font does not."""


@dataclass(frozen=True, slots=True)
class Lettering:
    """Lines of text that fit, `leading` pixels apart, in `font`."""

    lines: tuple[str, ...]
    font: ImageFont.FreeTypeFont
    leading: int

    @property
    def height(self) -> int:
        return self.leading * len(self.lines)


class _Ruler:
    """Widths of text in one font, by adding up its letters: fast, and never far from what kerning makes of it."""

    def __init__(self, font: ImageFont.FreeTypeFont) -> None:
        self._font = font
        self._letters: dict[str, float] = {}

    def width(self, text: str) -> float:
        total = 0.0
        for character in text:
            if character not in self._letters:
                self._letters[character] = self._font.getlength(character)
            total += self._letters[character]
        return total


def letter(text: str, *, width: int, height: int, largest: int, smallest: int) -> Lettering:
    """Set `text` in at most `width` by `height` pixels, at a size between `smallest` and `largest` pixels."""
    readable = _readable(text[:_LONGEST])
    face = _face(readable)
    size = largest
    while True:
        font = face(size)
        ruler = _Ruler(font)
        leading = round(size * 1.32)
        lines = _wrapped(readable, ruler, width)
        room = max(1, height // leading)
        if len(lines) <= room and len(text) <= _LONGEST:
            return Lettering(tuple(lines), font, leading)
        if size <= smallest:
            kept = lines[:room]
            while kept[-1] and ruler.width(f"{kept[-1]}…") > width:
                kept[-1] = kept[-1][:-1]
            return Lettering((*kept[:-1], f"{kept[-1].rstrip()}…"), font, leading)
        size = max(smallest, min(size - 1, round(size * 0.92)))


def _readable(text: str) -> str:
    """The text with what Pillow's font lacks written in letters it has, as far as that is possible."""
    words = " ".join(text.translate(_PLAIN).split())
    return "".join(_spelled(character) for character in words)


@lru_cache(maxsize=4096)
def _spelled(character: str) -> str:
    if _drawable(character, _builtin(24)):
        return character
    base = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    if base and all(_drawable(part, _builtin(24)) for part in base):
        return base
    if unicodedata.category(character) in {"So", "Sk", "Sm"}:
        return f"({unicodedata.name(character, 'symbol').lower()})"
    return character


def _drawable(character: str, font: ImageFont.FreeTypeFont) -> bool:
    if character.isspace():
        return True
    return bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


@lru_cache(maxsize=64)
def _builtin(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow was built without FreeType; install the regular pillow wheel")
    return font


@lru_cache(maxsize=64)
def _system(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(name, size)


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """Which of the wide fonts this machine has."""
    found = []
    for name in _WIDE_FONTS:
        try:
            _system(name, 24)
        except OSError:
            continue
        found.append(name)
    return tuple(found)


def _face(text: str) -> Callable[[int], ImageFont.FreeTypeFont]:
    """Pillow's own font, or the system's font that has most of the letters it lacks, at any size."""
    missing = {character for character in text if not _drawable(character, _builtin(24))}
    scores = {name: sum(_drawable(letter, _system(name, 24)) for letter in missing) for name in _installed()}
    best = max(scores, key=lambda name: scores[name], default=None)
    if best is None or not scores[best]:
        return _builtin
    return lambda size: _system(best, size)


def _wrapped(text: str, ruler: _Ruler, width: int) -> list[str]:
    lines, used, space = [""], 0.0, ruler.width(" ")
    for word in text.split(" "):
        for piece in _pieces(word, ruler, width):
            wide = ruler.width(piece)
            if lines[-1] and used + space + wide > width:
                lines.append(piece)
                used = wide
            else:
                lines[-1] = f"{lines[-1]} {piece}" if lines[-1] else piece
                used += wide + (space if used else 0)
    return lines


def _pieces(word: str, ruler: _Ruler, width: int) -> list[str]:
    """The word, cut where it is wider than a whole line."""
    if ruler.width(word) <= width:
        return [word]
    pieces, used = [""], 0.0
    for character in word:
        wide = ruler.width(character)
        if pieces[-1] and used + wide > width:
            pieces.append("")
            used = 0.0
        pieces[-1] += character
        used += wide
    return pieces
