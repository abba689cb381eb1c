"""Pictures for the sandbox: real image files, decided by prompt and seed alone, that show the prompt's words.

A picture is a photographic print: a scene the prompt suggests, and the prompt set in type below it. Its
earlier stages are the same print in the developer. Drawing happens in threads of its own, so that neither
the event loop nor anybody else's threads wait for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw, ImageFilter

from providers.sandbox.developing import develop, paper_tint
from providers.sandbox.lettering import Lettering, letter
from providers.sandbox.palette import mix
from providers.sandbox.scenery import paint_scene

ImageFormat = Literal["png", "webp", "jpeg"]
LARGEST_SIDE = 4096
"""Pixels; more is refused, so that no request can exhaust the memory."""
_SCENE_PIXELS = 1_200_000
"""Scenes are soft: painted at most this large and enlarged, they look the same and take a fraction of the time."""
_threads = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2), thread_name_prefix="darkroom-drawing")


@dataclass(frozen=True, slots=True)
class Drawing:
    """What to draw. Equal drawings give equal bytes (on one machine, with one version of Pillow).

    `index` tells the pictures of one request apart; a `transparent` one lies on nothing instead of filling
    the whole rectangle. Sides are in pixels, 16 to `LARGEST_SIDE`; others raise `ValueError`.
    """

    prompt: str
    width: int
    height: int
    seed: int = 0
    index: int = 0
    transparent: bool = False

    def __post_init__(self) -> None:
        if not (16 <= self.width <= LARGEST_SIDE and 16 <= self.height <= LARGEST_SIDE):
            raise ValueError(f"cannot draw {self.width}x{self.height}: both sides must be 16 to {LARGEST_SIDE} pixels")

    def dice(self, purpose: str) -> random.Random:
        """Chance that is the same every time for this drawing; another row of it for each purpose."""
        key = f"{purpose}\0{self.seed}\0{self.index}\0{self.prompt}".encode()
        return random.Random(int.from_bytes(hashlib.sha256(key).digest()))


async def drawn(
    drawing: Drawing, image_format: ImageFormat = "png", *, compression: int = 100, progress: float = 1.0
) -> bytes:
    """An image file of the drawing: finished at `progress` 1, an earlier stage of it at anything between 0 and 1.

    `compression` is what the OpenAI API means by it: 0–100, where 100 keeps the most detail (no effect on png).
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, _encoded, drawing, image_format, compression, progress)


@lru_cache(maxsize=16)
def _encoded(drawing: Drawing, image_format: ImageFormat, compression: int, progress: float) -> bytes:
    picture = _print(drawing)
    if progress < 1:
        picture = develop(picture, progress, drawing.dice("developer"))
    file = io.BytesIO()
    if image_format == "png":
        picture.save(file, "PNG", compress_level=1)
    elif image_format == "webp":
        picture.save(file, "WEBP", quality=compression, method=0)
    else:
        picture.convert("RGB").save(file, "JPEG", quality=max(1, min(compression, 95)))
    return file.getvalue()


@lru_cache(maxsize=4)
def _print(drawing: Drawing) -> Image.Image:
    """The finished print. Kept for a moment, because its earlier stages are asked for one after the other."""
    size = (drawing.width, drawing.height)
    if not drawing.transparent:
        return _sheet(drawing, *size)
    margin = max(1, round(min(size) * 0.04))
    sheet = _sheet(drawing, size[0] - 2 * margin, size[1] - 2 * margin)
    corners = Image.new("L", sheet.size)
    box = (0, 0, sheet.width - 1, sheet.height - 1)
    ImageDraw.Draw(corners).rounded_rectangle(box, radius=margin * 0.8, fill=255)
    shadow = Image.new("L", size)
    shadow.paste(corners.point([round(v * 0.45) for v in range(256)]), (margin, margin + margin // 3))
    whole = Image.new("RGBA", size, (16, 12, 20, 0))
    whole.putalpha(shadow.filter(ImageFilter.GaussianBlur(margin * 0.3)))
    whole.paste(sheet, (margin, margin), corners)
    return whole


def _sheet(drawing: Drawing, width: int, height: int) -> Image.Image:
    """Paper with the scene on it and the prompt below."""
    border = max(2, round(min(width, height) * 0.042))
    inner = width - 2 * border
    caption = letter(
        drawing.prompt,
        width=inner,
        height=max(10, round(height * 0.24)),
        largest=max(9, round(min(width * 0.042, height * 0.06))),
        smallest=max(9, round(min(width, height) * 0.018)),
    )
    note = max(9, round(min(width, height) * 0.0165))
    scene_height = max(4, height - border - round(border * 0.8) - caption.height - round(note * 2.4) - border // 2)
    scale = min(1.0, (_SCENE_PIXELS / (inner * scene_height)) ** 0.5)
    words = frozenset(re.findall(r"[a-z]+", drawing.prompt.lower()))
    painted = (max(2, round(inner * scale)), max(2, round(scene_height * scale)))
    canvas = paint_scene(words, drawing.dice("scene"), *painted)
    paper = paper_tint(canvas.palette.light)
    sheet = Image.new("RGB", (width, height), paper)
    scene = canvas.image if scale == 1.0 else canvas.image.resize((inner, scene_height), Image.Resampling.BICUBIC)
    sheet.paste(scene, (border, border))
    pen = ImageDraw.Draw(sheet)
    below = border + scene_height + round(border * 0.62)
    _write(pen, caption, border, below, canvas.palette.ink)
    footnote = f"darkroom sandbox  ·  no. {drawing.index + 1}"
    imprint = letter(footnote, width=inner, height=note * 2, largest=note, smallest=8)
    faint = mix(paper, canvas.palette.ink, 0.45)
    _write(pen, imprint, border, height - border - round(note * 0.55), faint)
    return sheet


def _write(pen: ImageDraw.ImageDraw, lettering: Lettering, x: int, y: int, paint: tuple[int, int, int]) -> None:
    for number, line in enumerate(lettering.lines):
        pen.text((x, y + number * lettering.leading), line, font=lettering.font, fill=paint)
