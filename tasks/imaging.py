"""What can be told and made from picture bytes. Plain functions that work for milliseconds: call them in a thread."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass

from PIL import Image

from providers.described import DescribedEnum
from tasks.errors import NotAnImageError

THUMBNAIL_WIDTHS = (64, 128, 256, 512, 1024, 2048)
PLACEHOLDER_SIDE = 24
SVG_PROLOGUE_BYTES = 16_384
TALLEST = 16_383
"""The most pixels a WebP has in any direction."""
MOST_PIXELS = 80_000_000
"""Ten times what any provider delivers: decoding more could exhaust this machine's memory."""


class ImageFormat(DescribedEnum):
    """The file formats providers deliver, by media type."""

    PNG = "image/png", "PNG: lossless, may be transparent."
    JPEG = "image/jpeg", "JPEG: small, never transparent."
    WEBP = "image/webp", "WebP: small, may be transparent."
    GIF = "image/gif", "GIF: may be animated."
    SVG = "image/svg+xml", "SVG: drawn, any size."


EXTENSIONS = {
    ImageFormat.PNG: "png",
    ImageFormat.JPEG: "jpg",
    ImageFormat.WEBP: "webp",
    ImageFormat.GIF: "gif",
    ImageFormat.SVG: "svg",
}
RASTER = [format.name for format in ImageFormat if format is not ImageFormat.SVG]
_SVG_ROOT = re.compile(rb"<svg\b[^>]*>")
_SVG_SIDE = re.compile(rb"""\s(width|height)\s*=\s*["']\s*(\d{1,5}(?:\.\d{1,9})?)(?:px)?\s*["']""")
_SVG_NUMBER = rb"(\d{1,5}(?:\.\d{1,9})?)"
_SVG_BOX = re.compile(rb"""\sviewBox\s*=\s*["'][-\d.]+[\s,]+[-\d.]+[\s,]+""" + _SVG_NUMBER + rb"[\s,]+" + _SVG_NUMBER)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the header of a picture says."""

    format: ImageFormat
    width: int
    height: int


def measure(data: bytes) -> Measured:
    """Format and size from the bytes themselves, never from what a provider claims.

    Raises `NotAnImageError`. Reads the header only: a file that is cut short passes here and fails in `placeholder`.
    """
    if root := _svg_root(data[:SVG_PROLOGUE_BYTES]):
        return _measure_svg(root)
    try:
        with Image.open(io.BytesIO(data), formats=RASTER) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise NotAnImageError(f"A picture of {picture.width}x{picture.height} pixels is too large to handle.")
            return Measured(ImageFormat(Image.MIME[picture.format or ""]), picture.width, picture.height)
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise NotAnImageError(
            f"{len(data)} bytes that begin with {data[:12]!r} are no picture in a format this server keeps "
            f"({', '.join(format.name for format in ImageFormat)})."
        ) from exc


def _svg_root(head: bytes) -> bytes | None:
    """The root element's tag of an SVG; None for anything else. Looks past a declaration, a doctype and comments."""
    rest = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    while True:
        for opening, closing in ((b"<?", b"?>"), (b"<!--", b"-->"), (b"<!", b">")):
            if rest.startswith(opening):
                rest = rest.partition(closing)[2].lstrip()
                break
        else:
            root = _SVG_ROOT.match(rest)
            return root[0] if root else None


def _measure_svg(root: bytes) -> Measured:
    """The size an SVG's root element gives; 0 by 0 where it gives none, because it then has none."""
    sides = {name: float(value) for name, value in _SVG_SIDE.findall(root)}
    box = _SVG_BOX.search(root)
    width = sides.get(b"width") or (float(box[1]) if box else 0)
    height = sides.get(b"height") or (float(box[2]) if box else 0)
    return Measured(ImageFormat.SVG, round(width), round(height))


def placeholder(data: bytes) -> str:
    """A `data:` URI of a few hundred bytes that can be shown, blurred, until the picture itself has loaded.

    Decodes the whole picture, so it also proves that none of it is missing: raises `NotAnImageError` if some is.
    """
    made = _shrink(data, PLACEHOLDER_SIDE, PLACEHOLDER_SIDE, quality=40)
    return "data:image/webp;base64," + base64.b64encode(made).decode()


def thumbnail(data: bytes, width: int) -> bytes:
    """A WebP at most `width` pixels wide; smaller pictures keep their size."""
    return _shrink(data, width, TALLEST, quality=82)


def _shrink(data: bytes, width: int, height: int, *, quality: int) -> bytes:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.draft("RGB", (width, width))
            picture.load()
            small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except (OSError, ValueError, SyntaxError) as exc:
        raise NotAnImageError(f"A picture of {len(data)} bytes cannot be decoded: {exc}.") from exc
    small.thumbnail((width, height), Image.Resampling.BOX if width <= PLACEHOLDER_SIDE else Image.Resampling.LANCZOS)
    made = io.BytesIO()
    small.save(made, "WEBP", quality=quality)
    return made.getvalue()
