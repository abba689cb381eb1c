"""From base64 text to the bytes of a picture, and whether they are all there."""

from __future__ import annotations

import re
from binascii import a2b_base64

_ALPHABET = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_TAIL = 4096
_SLICE = 1024 * 1024


class NotAPictureError(ValueError):
    """The text is not base64, or holds nothing."""


class CutPictureError(NotAPictureError):
    """The picture ends before its end."""


def decode_picture(text: str) -> bytes:
    """The file in `text`, standard base64; a data URI around it and line breaks in it are tolerated.

    Raises CutPictureError where it ends early, NotAPictureError where it is something else.
    """
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise NotAPictureError("the data URI is not base64")
    try:
        data = _decode(text)
    except ValueError:
        data = _decode_with_spaces(text)
    if not data:
        raise NotAPictureError("there is nothing in it")
    if is_cut(data):
        raise CutPictureError("the file ends before its last part")
    return data


def _decode(text: str) -> bytes:
    """Strictly, and in slices: decoding holds the interpreter's lock, 2 ms for each MiB, and between two slices
    the event loop gets its turn. Raises ValueError.
    """
    if len(text) <= _SLICE:
        return a2b_base64(text, strict_mode=True)
    if len(text) % 4 or "=" in text[:-2]:
        raise ValueError("not whole groups of four")
    return b"".join(a2b_base64(text[start : start + _SLICE], strict_mode=True) for start in range(0, len(text), _SLICE))


def _decode_with_spaces(text: str) -> bytes:
    compact = "".join(text.split())
    if _ALPHABET.fullmatch(compact) is None:
        raise NotAPictureError("the text is not base64")
    if len(compact) % 4:
        raise CutPictureError("the base64 text ends in the middle of a group")
    try:
        return _decode(compact)
    except ValueError as exc:
        raise NotAPictureError("the text is not base64") from exc


def is_cut(data: bytes) -> bool:
    """Whether a PNG, JPEG, WebP, GIF or SVG lacks its end. Anything else is taken as it is."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-_TAIL:]
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data[-_TAIL:]
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return not data.rstrip(b"\0").endswith(b";")
    if data.lstrip().startswith((b"<svg", b"<?xml")) and b"<svg" in data[:_TAIL]:
        return b"</svg>" not in data[-_TAIL:]
    return False
