"""The pictures the measurements send: drawn once, and different in every frame.

Darkroom stores by content hash, so a picture it has seen before would be cheaper than life. Each frame therefore
carries a mark of its own, in a comment near the start of the file. The base64 text of everything behind the mark never
changes: making a new picture out of an old one takes as long as copying it.
"""

from __future__ import annotations

import asyncio
import io
import zlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageChops

from providers.sandbox.drawing import Drawing, drawn

Format = Literal["png", "jpeg"]
Stage = Literal["partial", "final"]
STAGES: dict[Stage, float] = {"partial": 0.5, "final": 1.0}

_COMMENT = b"Comment\0"
_AFTER: dict[str, int] = {"png": 33, "jpeg": 20}
"""Where a comment may stand: behind PNG's signature and IHDR, behind JPEG's SOI and JFIF header."""
_BISECTIONS = 6
_COARSEST_GRAIN = 96.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What a picture is meant to be: its sides in pixels, and the bytes it should have."""

    title: str
    format: Format
    width: int
    height: int
    size: int
    quality: int = 95


KINDS: dict[str, Kind] = {
    "small": Kind("small PNG", "png", 64, 64, 0),
    "jpeg-100k": Kind("JPEG 100 KB", "jpeg", 1024, 1024, 100_000, 50),
    "png-100k": Kind("PNG 100 KB", "png", 256, 256, 100_000),
    "jpeg-1300k": Kind("JPEG 1.3 MB", "jpeg", 1024, 1024, 1_300_000),
    "png-1300k": Kind("PNG 1.3 MB", "png", 1024, 1024, 1_300_000),
}


class Picture:
    """A file that can be had with any mark in it."""

    def __init__(self, data: bytes, format: Format) -> None:
        self.format = format
        self.size = len(data) + len(self._comment(0))
        self._start = data[: _AFTER[format]]
        self._rest = b64encode(data[_AFTER[format] :])
        if (len(self._start) + len(self._comment(0))) % 3:
            raise ValueError("the mark has to end where a group of base64 ends")

    def base64(self, mark: int) -> bytes:
        """The file with this mark in it."""
        return b64encode(self._start + self._comment(mark)) + self._rest

    def _comment(self, mark: int) -> bytes:
        text = _COMMENT + b"%010d" % mark
        if self.format == "jpeg":
            return b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
        return len(text).to_bytes(4, "big") + b"tEXt" + text + zlib.crc32(b"tEXt" + text).to_bytes(4, "big")


def mark_of(data: bytes) -> int | None:
    """The mark in a file, or None where there is none."""
    _, found, behind = data[:128].partition(_COMMENT)
    return int(behind[:10]) if found else None


def make(folder: Path, kinds: list[str]) -> None:
    """Draw these kinds of pictures into `folder`, both stages of each. Takes some seconds for large ones."""
    with ThreadPoolExecutor() as threads:
        for path, data in threads.map(
            lambda one: (_path(folder, *one), _made(*one)), [(kind, stage) for kind in kinds for stage in STAGES]
        ):
            path.write_bytes(data)


def load(folder: Path, kind: str, stage: Stage) -> Picture:
    """One of the pictures that `make` has drawn."""
    return Picture(_path(folder, kind, stage).read_bytes(), KINDS[kind].format)


def _path(folder: Path, kind: str, stage: Stage) -> Path:
    return folder / f"{kind}.{stage}"


def _made(name: str, stage: Stage) -> bytes:
    """A drawing with just enough film grain in it to have the size it should: photographs are that much noisier."""
    kind = KINDS[name]
    drawing = Drawing(f"A lighthouse at dusk, {kind.title}", kind.width, kind.height)
    file = asyncio.run(drawn(drawing, "png", progress=STAGES[stage]))
    with Image.open(io.BytesIO(file)) as picture:
        plain = picture.convert("RGB")
    best = _encoded(plain, kind)
    if len(best) >= kind.size:
        return best
    low, high = 0.0, _COARSEST_GRAIN
    for _ in range(_BISECTIONS):
        grain = (low + high) / 2
        data = _encoded(ImageChops.add(plain, _grain(kind, grain), offset=-128), kind)
        best = min(best, data, key=lambda one: abs(len(one) - kind.size))
        low, high = (grain, high) if len(data) < kind.size else (low, grain)
    return best


def _grain(kind: Kind, sigma: float) -> Image.Image:
    """Noise around 128; in colour for JPEG, which would leave out half of it otherwise, and grey for PNG."""
    size = (kind.width, kind.height)
    if kind.format == "png":
        return Image.merge("RGB", [Image.effect_noise(size, sigma)] * 3)
    return Image.merge("RGB", [Image.effect_noise(size, sigma) for _ in range(3)])


def _encoded(picture: Image.Image, kind: Kind) -> bytes:
    file = io.BytesIO()
    if kind.format == "png":
        picture.save(file, "PNG", compress_level=1)
    else:
        picture.save(file, "JPEG", quality=kind.quality, subsampling="4:4:4")
    return file.getvalue()
