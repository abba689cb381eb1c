"""A picture on its way: how a print looks in the developer, under a red safelight, before it is finished."""

from __future__ import annotations

import random

from PIL import Image, ImageChops, ImageFilter

from providers.sandbox.palette import colour, mix

_PAPER, _SILVER = colour("#e8705a"), colour("#4a0a10")
"""White paper and black silver, as they look under the safelight."""
_TILE = 256


def develop(picture: Image.Image, progress: float, dice: random.Random) -> Image.Image:
    """`picture` as it looked at `progress`, which is above 0 (blank paper) and below 1 (finished); same size and mode.

    Shadows come first and in patches, then the middle tones; colour and sharpness come last.
    """
    colours = picture.convert("RGB")
    width, height = colours.size
    unclear = max(1.0, min(width, height) * 0.02 * (1 - progress) ** 1.5)
    small = colours.reduce(max(1, int(unclear / 2)))
    soft = small.filter(ImageFilter.GaussianBlur(unclear * small.width / width)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    density = soft.convert("L").point(_tones(progress))
    density = ImageChops.multiply(density, _patches(dice, (width, height), progress))
    safelit = Image.composite(
        Image.new("RGB", (width, height), _SILVER), Image.new("RGB", (width, height), _PAPER), density
    )
    rendered = Image.blend(safelit, soft, progress**1.7)
    grained = ImageChops.add(
        rendered, _grain(dice, (width, height), 30 * (1 - progress)), 1, -round(15 * (1 - progress))
    )
    if picture.mode == "RGBA":
        grained.putalpha(picture.getchannel("A"))
    return grained


def _tones(progress: float) -> list[int]:
    """How much silver a tone of the finished picture has by now: dark tones build up first."""
    curve = []
    for tone in range(256):
        shadow = 1 - tone / 255
        built = max(0.0, shadow - 0.55 * (1 - progress) ** 2) * (0.35 + 0.75 * progress)
        curve.append(min(255, round(255 * built * 1.25)))
    return curve


def _patches(dice: random.Random, size: tuple[int, int], progress: float) -> Image.Image:
    """Where the developer has reached: uneven early on, everywhere at the end."""
    blots = Image.frombytes("L", (6, 6), dice.randbytes(36)).resize(size, Image.Resampling.BICUBIC)
    least = 0.2 + 0.8 * progress
    return blots.point([round(255 * (least + (1 - least) * value / 255)) for value in range(256)])


def _grain(dice: random.Random, size: tuple[int, int], strength: float) -> Image.Image:
    """Film grain between 0 and `strength`, the same in all three colours."""
    half = _TILE // 2
    speck = Image.frombytes("L", (half, half), dice.randbytes(half * half)).filter(ImageFilter.GaussianBlur(0.6))
    levels = [round(min(1.0, max(0.0, 0.5 + (value - 127.5) / 140)) * strength) for value in range(256)]
    tile = speck.point(levels).resize((_TILE, _TILE), Image.Resampling.NEAREST)  # coarse, which also packs well
    sheet = Image.new("L", size)
    for x in range(0, size[0], _TILE):
        for y in range(0, size[1], _TILE):
            sheet.paste(tile, (x, y))
    return Image.merge("RGB", (sheet, sheet, sheet))


def paper_tint(light: tuple[int, int, int]) -> tuple[int, int, int]:
    """The white of the paper a finished print is on: warm, with a breath of the picture's own light."""
    return mix((250, 247, 240), light, 0.12)
