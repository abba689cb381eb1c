"""The files of the simulated vendor: the full picture, and a preview that nobody can take for it."""

from __future__ import annotations

import asyncio
import io
import re
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from providers.all_images.simulator_store import Print
from providers.all_images.simulator_validation import SIZES, params_of
from providers.sandbox.drawing import Drawing, drawn

_FLAGS = re.compile(r"\s*(?<!\S)--[a-zA-Z]\w*(?:\s+(?!--)\S+)?")
_RATIO = re.compile(r"(?<!\S)--(?:ar|aspect)\s+(\d+:\d+)")


async def picture(made: Print, number: int, *, preview: bool, default_format: str) -> bytes:
    """Picture `number` as a JPEG file: in full, or at half its size with PREVIEW written across it."""
    full = await drawn(_drawing(made, number, default_format), "jpeg", compression=92)
    return await asyncio.to_thread(_preview, full) if preview else full


def _drawing(made: Print, number: int, default_format: str) -> Drawing:
    params, prompt = params_of(made.body), str(made.body["prompt"])
    advanced = made.body.get("mode") == "advanced"
    ratio = _RATIO.search(prompt) if advanced else None
    shape = ratio[1] if ratio is not None else None if advanced else params.get("format")
    width, height = SIZES.get(shape or default_format, SIZES["1:1"])
    words = [str(made.body.get("additionalPrompt") or ""), _FLAGS.sub("", prompt) if advanced else prompt]
    setting = [params[name] for name in ("weather", "time") if name in params and not advanced]
    caption = ", ".join([" ".join(filter(None, words)), *setting])
    return Drawing(caption, width, height, made.script.seed, number)


@lru_cache(maxsize=16)
def _preview(full: bytes) -> bytes:
    with Image.open(io.BytesIO(full)) as opened:
        small = opened.convert("RGB").resize((opened.width // 2, opened.height // 2), Image.Resampling.LANCZOS)
    band = Image.new("L", small.size)
    pen = ImageDraw.Draw(band)
    font = ImageFont.load_default(size=max(20, small.width // 6))
    pen.text((small.width / 2, small.height / 2), "PREVIEW", fill=150, font=font, anchor="mm")
    small.paste((255, 255, 255), (0, 0), band.rotate(20, Image.Resampling.BILINEAR))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()
