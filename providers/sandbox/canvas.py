"""A canvas that the scenes of the sandbox are painted on: soft gradients, smooth outlines, glows."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw

from providers.sandbox.palette import Colour, Palette, mix

Point = tuple[float, float]
_SMOOTH = 2
"""Outlines are drawn this many times larger and reduced, which is how Pillow gets smooth edges."""


def gradient(size: tuple[int, int], colours: Sequence[Colour]) -> Image.Image:
    """Top to bottom through `colours`, evenly spaced."""
    strip = Image.new("RGB", (1, 256))
    steps = len(colours) - 1
    for y in range(256):
        position = y / 255 * steps
        start = min(int(position), steps - 1)
        strip.putpixel((0, y), mix(colours[start], colours[start + 1], position - start))
    return strip.resize(size, Image.Resampling.BICUBIC)


class Canvas:
    """`width` by `height` pixels of paint, with the palette and the dice a scene is painted with.

    Positions are pixels from the top left. `unit` is a hundredth of the shorter side, for sizes that should
    look the same whatever the picture's size.
    """

    def __init__(self, width: int, height: int, palette: Palette, dice: random.Random) -> None:
        self.width = width
        self.height = height
        self.palette = palette
        self.dice = dice
        self.unit = min(width, height) / 100
        self.image = gradient((width, height), palette.sky)

    def fill(
        self,
        draw: Callable[[ImageDraw.ImageDraw, float], None],
        colours: Sequence[Colour],
        *,
        top: float = 0,
        bottom: float | None = None,
        opacity: float = 1,
    ) -> None:
        """Paint what `draw` outlines (in white, at the scale it is given) with a gradient from `top` to `bottom`."""
        size = (self.width * _SMOOTH, self.height * _SMOOTH)
        outline = Image.new("L", size)
        draw(ImageDraw.Draw(outline), _SMOOTH)
        box = outline.getbbox()
        if box is None:
            return
        left, upper = box[0] // _SMOOTH, box[1] // _SMOOTH
        right, lower = -(-box[2] // _SMOOTH), -(-box[3] // _SMOOTH)
        mask = outline.crop((left * _SMOOTH, upper * _SMOOTH, right * _SMOOTH, lower * _SMOOTH)).reduce(_SMOOTH)
        if opacity < 1:
            mask = mask.point([round(value * opacity) for value in range(256)])
        self.image.paste(self._paint(colours, top, bottom, (left, upper, right, lower)), (left, upper), mask)

    def polygon(
        self,
        points: Sequence[Point],
        *colours: Colour,
        top: float = 0,
        bottom: float | None = None,
        opacity: float = 1,
    ) -> None:
        """A filled outline."""

        def draw(pen: ImageDraw.ImageDraw, scale: float) -> None:
            pen.polygon([(x * scale, y * scale) for x, y in points], fill=255)

        self.fill(draw, colours, top=top, bottom=bottom, opacity=opacity)

    def ground(self, crest: Sequence[Point], *colours: Colour, opacity: float = 1) -> None:
        """Everything below the line `crest`, fading from the first colour at its highest point to the last below."""
        outline = [*crest, (self.width, self.height), (0, self.height)]
        self.polygon(outline, *colours, top=min(y for _, y in crest), bottom=self.height, opacity=opacity)

    def disc(self, x: float, y: float, radius: float, *colours: Colour, opacity: float = 1) -> None:
        """A filled circle."""

        def draw(pen: ImageDraw.ImageDraw, scale: float) -> None:
            pen.ellipse([(v * scale) for v in (x - radius, y - radius, x + radius, y + radius)], fill=255)

        self.fill(draw, colours, top=y - radius, bottom=y + radius, opacity=opacity)

    def glow(self, x: float, y: float, radius: float, paint: Colour, strength: float) -> None:
        """Light around a point, fading to nothing at `radius`."""
        side = max(2, round(radius * 2))
        falloff = [round(255 * strength * max(0.0, 1 - value / 180) ** 2) for value in range(256)]
        mask = Image.radial_gradient("L").point(falloff).resize((side, side), Image.Resampling.BICUBIC)
        self.image.paste(paint, (round(x - radius), round(y - radius)), mask)

    def vignette(self, strength: float) -> None:
        """Darken the corners a little, as a lens does."""
        shade = Image.radial_gradient("L").point([255 - round(strength * max(0, v - 130)) for v in range(256)])
        mask = shade.resize((self.width, self.height), Image.Resampling.BICUBIC)
        self.image = ImageChops.multiply(self.image, Image.merge("RGB", (mask, mask, mask)))

    def _paint(
        self, colours: Sequence[Colour], top: float, bottom: float | None, box: tuple[int, int, int, int]
    ) -> Image.Image:
        left, upper, right, lower = box
        size = (right - left, lower - upper)
        if len(colours) == 1:
            return Image.new("RGB", size, colours[0])
        end = self.height if bottom is None else bottom
        tall = gradient((1, max(2, round(end - top))), colours)
        strip = Image.new("RGB", (1, size[1]), colours[-1])
        start = round(top) - upper
        if start > 0:
            strip.paste(colours[0], (0, 0, 1, start))
        strip.paste(tall, (0, start))
        return strip.resize(size, Image.Resampling.NEAREST)


def noise_line(dice: random.Random, length: int, *, waves: float, roughness: float, octaves: int = 5) -> list[float]:
    """`length` heights between 0 and 1 along a line: `waves` large hills, with smaller ones on top of them.

    `roughness` is how much each smaller size of hill keeps of the height of the one before.
    """
    heights = [0.0] * length
    total, amplitude = 0.0, 1.0
    for _ in range(octaves):
        knots = [dice.random() for _ in range(int(waves) + 3)]
        shift = dice.random()
        for x in range(length):
            position = x / length * waves + shift
            knot = int(position)
            fraction = position - knot
            eased = fraction * fraction * (3 - 2 * fraction)
            heights[x] += amplitude * (knots[knot] + (knots[knot + 1] - knots[knot]) * eased)
        total += amplitude
        amplitude *= roughness
        waves *= 2
    return [height / total for height in heights]
