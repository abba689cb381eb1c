"""The scenes a sandbox picture can show. The words of the prompt choose where they can, its hash where they cannot."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import TypeVar

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from providers.sandbox import figures
from providers.sandbox.canvas import Canvas, Point, gradient, noise_line
from providers.sandbox.palette import PALETTES, mix

T = TypeVar("T")
_STEPS = 260
"""Points along a crest; more cannot be seen."""


def paint_scene(words: frozenset[str], dice: random.Random, width: int, height: int) -> Canvas:
    """A landscape for a prompt made of `words`, decided by `dice` where the words leave it open."""
    palette = _best({mood: mood.fits(words) for mood in PALETTES}, dice)
    scene = _best({scene: len(keys & words) for scene, keys in _SCENES.items()}, dice)
    canvas = Canvas(width, height, palette, dice)
    side = dice.choice((-1, 1))
    sun = ((0.5 + side * dice.uniform(0.1, 0.28)) * width, dice.uniform(0.24, 0.4) * height)
    _sky(canvas, sun)
    scene(canvas, sun, words)
    if words & {"balloon", "balloons"} or (not palette.night and scene is not _sea and dice.random() < 0.2):
        figures.balloon(canvas, width / 2 - side * dice.uniform(0.18, 0.3) * width, height * 0.3, 7 * canvas.unit)
    elif not palette.night:
        figures.birds(canvas, width / 2 - side * dice.uniform(0.05, 0.3) * width, height * dice.uniform(0.2, 0.34))
    if words & {"rain", "rainy", "storm", "stormy"}:
        figures.rain(canvas)
    canvas.vignette(0.3)
    return canvas


def _best(scores: dict[T, int], dice: random.Random) -> T:
    """The candidate with the highest score; among equals the dice decide."""
    highest = max(scores.values())
    return dice.choice([candidate for candidate, score in scores.items() if score == highest])


def _crest(
    canvas: Canvas, base: float, rise: float, *, waves: float, roughness: float, sharp: bool = False
) -> list[Point]:
    """A skyline: between `base` (its lowest) and `rise` above it, as fractions of the picture's height."""
    heights = noise_line(
        canvas.dice, _STEPS + 1, waves=waves * max(1.0, canvas.width / canvas.height), roughness=roughness
    )
    low, high = min(heights), max(heights)
    points = []
    for step, height in enumerate(heights):
        level = (height - low) / (high - low)
        if sharp:
            level = 1 - abs(2 * level - 1) ** 0.8
        points.append((step / _STEPS * canvas.width, (base - rise * level) * canvas.height))
    return points


def _height_at(crest: list[Point], x: float, width: float) -> float:
    return crest[min(_STEPS, max(0, round(x / width * _STEPS)))][1]


def _sky(canvas: Canvas, sun: Point) -> None:
    palette, dice, unit = canvas.palette, canvas.dice, canvas.unit
    x, y = sun
    if palette.night:
        _stars(canvas)
        if palette.name == "aurora":
            _aurora(canvas)
        canvas.glow(x, y, 42 * unit, palette.light, 0.32)
        radius = 6.5 * unit
        canvas.disc(x, y, radius, palette.light, mix(palette.light, palette.haze, 0.25))
        for _ in range(6):
            angle, distance = dice.uniform(0, math.tau), dice.uniform(0.1, 0.68) * radius
            crater = (x + math.cos(angle) * distance, y + math.sin(angle) * distance)
            canvas.disc(*crater, dice.uniform(0.08, 0.2) * radius, mix(palette.light, palette.haze, 0.4), opacity=0.5)
        return
    canvas.glow(x, y, 75 * unit, palette.light, 0.55)
    canvas.glow(x, y, 28 * unit, palette.light, 0.6)
    canvas.disc(x, y, 8.5 * unit, palette.light, mix(palette.light, palette.haze, 0.35))
    for _ in range(dice.randint(2, 4)):
        _cloud(canvas, dice.uniform(0, 1) * canvas.width, dice.uniform(0.1, 0.42) * canvas.height)


def _stars(canvas: Canvas) -> None:
    dice, unit = canvas.dice, canvas.unit
    for brightness in (0.35, 0.6, 0.95):

        def draw(pen: ImageDraw.ImageDraw, scale: float, size: float = brightness * 0.32) -> None:
            for _ in range(90):
                x, y = dice.random() * canvas.width * scale, dice.random() ** 1.5 * 0.75 * canvas.height * scale
                radius = size * unit * scale
                pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)

        canvas.fill(draw, [canvas.palette.light], opacity=brightness)


def _aurora(canvas: Canvas) -> None:
    """Three curtains of light, drawn small and enlarged: they have no edges to lose."""
    width, height = max(1, canvas.width // 8), max(1, canvas.height // 8)
    light = Image.new("L", (width, height))
    for _ in range(3):
        base = canvas.dice.uniform(0.36, 0.52) * height
        curtain = noise_line(canvas.dice, width, waves=2.5, roughness=0.5)
        folds = noise_line(canvas.dice, width, waves=14, roughness=0.6)
        ray = Image.linear_gradient("L").point([round(v * v / 255 * 0.75) for v in range(256)])
        for x in range(width):
            foot = round(base + (curtain[x] - 0.5) * 0.5 * height)
            tall = max(2, round((0.12 + 0.3 * folds[x]) * height))
            column = ray.resize((1, tall)).point([round(v * (0.25 + 0.75 * folds[x])) for v in range(256)])
            light.paste(ImageChops.lighter(column, light.crop((x, foot - tall, x + 1, foot))), (x, foot - tall))
    glow = light.filter(ImageFilter.GaussianBlur(1.6)).resize(canvas.image.size, Image.Resampling.BICUBIC)
    canvas.image.paste(gradient(canvas.image.size, [(140, 110, 235), (96, 240, 190), (130, 255, 200)]), (0, 0), glow)


def _cloud(canvas: Canvas, x: float, y: float) -> None:
    """A long flat bank, as at sunset."""
    dice, unit = canvas.dice, canvas.unit
    reach = dice.uniform(14, 30) * unit

    def draw(pen: ImageDraw.ImageDraw, scale: float) -> None:
        for _ in range(9):
            offset, half = dice.uniform(-1, 1) * reach, dice.uniform(0.3, 0.6) * reach
            level, thick = dice.uniform(-1, 1) * 1.3 * unit, dice.uniform(0.4, 0.9) * unit
            box = (x + offset - half, y + level - thick, x + offset + half, y + level + thick)
            pen.rounded_rectangle([v * scale for v in box], radius=thick * scale, fill=255)

    canvas.fill(draw, [mix(canvas.palette.haze, canvas.palette.light, 0.6)], opacity=0.34)


def _mountains(canvas: Canvas, sun: Point, words: frozenset[str]) -> None:
    palette = canvas.palette
    layers = 5
    for layer in range(layers):
        depth = layer / (layers - 1)
        paint = mix(palette.far, palette.near, depth**1.15)
        crest = _crest(
            canvas, 0.62 + 0.3 * depth, 0.3 - 0.13 * depth, waves=2.2 + layer, roughness=0.52, sharp=layer < 3
        )
        canvas.ground(crest, mix(paint, palette.haze, 0.12 * (1 - depth)), mix(paint, palette.haze, 0.62 * (1 - depth)))
        if layer == layers - 1:
            figures.pines(canvas, lambda x: _height_at(crest, x, canvas.width), paint, count=26, tall=(5, 11))  # noqa: B023


def _sea(canvas: Canvas, sun: Point, words: frozenset[str]) -> None:
    palette, dice, unit = canvas.palette, canvas.dice, canvas.unit
    horizon = dice.uniform(0.52, 0.6)
    island = _crest(canvas, horizon, 0.09, waves=1.6, roughness=0.5)
    canvas.ground(island, mix(palette.far, palette.haze, 0.35))
    level = horizon * canvas.height
    water = [(0.0, level), (float(canvas.width), level)]
    canvas.ground(water, mix(palette.haze, palette.far, 0.45), mix(palette.far, palette.near, 0.55), palette.near)
    figures.glints(canvas, sun[0], level)
    ship = dice.uniform(0.3, 0.7)
    for layer in range(5):
        depth = layer / 4
        y = horizon + 0.09 + (1 - horizon - 0.04) * depth**1.3 * 0.86
        crest = _swell(canvas, y * canvas.height, (0.5 + 2.0 * depth) * unit, 15 - 9 * depth)
        paint = mix(palette.far, palette.near, 0.25 + 0.75 * depth)
        canvas.ground(crest, mix(paint, palette.haze, 0.16), paint)
        figures.stroke(canvas, crest, mix(paint, palette.light, 0.5), 0.16 + 0.3 * depth, opacity=0.6)
        if layer == 1 and "lighthouse" not in words:
            figures.boat(canvas, ship * canvas.width, y * canvas.height + 1.2 * unit, 15 * unit)
    if "lighthouse" in words or dice.random() < 0.3:
        figures.lighthouse(canvas, canvas.width - sun[0], 0.78 * canvas.height, 34 * unit)


def _swell(canvas: Canvas, y: float, amplitude: float, waves: float) -> list[Point]:
    """Peaked waves, of uneven height."""
    phase, second = canvas.dice.uniform(0, math.tau), canvas.dice.uniform(0, math.tau)
    points = []
    for step in range(_STEPS + 1):
        angle = step / _STEPS * waves * math.pi
        lift = 1 - 1.9 * abs(math.sin(angle + phase)) ** 0.8
        uneven = 0.75 + 0.35 * math.sin(angle * 0.37 + second)
        points.append((step / _STEPS * canvas.width, y - amplitude * lift * uneven))
    return points


def _dunes(canvas: Canvas, sun: Point, words: frozenset[str]) -> None:
    palette = canvas.palette
    mesa = _crest(canvas, 0.6, 0.12, waves=2, roughness=0.6)
    canvas.ground(mesa, mix(palette.far, palette.haze, 0.45), mix(palette.far, palette.haze, 0.7))
    for layer in range(4):
        depth = layer / 3
        base = 0.66 + 0.27 * depth
        crest = _crest(canvas, base, 0.14 + 0.05 * depth, waves=1.3 + 0.5 * layer, roughness=0.16)
        lit = mix(mix(palette.far, palette.light, 0.28), palette.near, 0.62 * depth)
        canvas.ground(crest, lit, mix(lit, palette.near, 0.35))
        # The side turned away from the sun: from the crest down to a lazier line under it.
        low = [(x, y + (0.03 + 0.13 * abs(math.sin(x / canvas.width * 2.6 + layer))) * canvas.height) for x, y in crest]
        shade = mix(lit, palette.near, 0.5)
        canvas.polygon(
            [*crest, *reversed(low)], shade, mix(shade, lit, 0.75), top=min(y for _, y in crest), opacity=0.55
        )


def _forest(canvas: Canvas, sun: Point, words: frozenset[str]) -> None:
    palette = canvas.palette
    ridge = _crest(canvas, 0.62, 0.22, waves=2, roughness=0.45)
    canvas.ground(ridge, mix(palette.far, palette.haze, 0.4), mix(palette.far, palette.haze, 0.75))
    for layer in range(4):
        depth = layer / 3
        paint = mix(palette.far, palette.near, 0.15 + 0.85 * depth)
        crest = _crest(canvas, 0.68 + 0.27 * depth, 0.1, waves=1.5 + layer * 0.5, roughness=0.4)
        tall = (7 + 7 * depth, 12 + 15 * depth)
        figures.pines(
            canvas,
            lambda x: _height_at(crest, x, canvas.width),  # noqa: B023
            paint,
            count=round((46 - 26 * depth) * max(1.0, canvas.width / canvas.height)),
            tall=tall,
        )
        canvas.ground(crest, paint, mix(paint, palette.haze, 0.55 * (1 - depth)))


def _city(canvas: Canvas, sun: Point, words: frozenset[str]) -> None:
    palette = canvas.palette
    for layer in range(3):
        depth = layer / 2
        paint = mix(palette.far, palette.near, 0.2 + 0.75 * depth)
        figures.skyline(
            canvas, 0.86 + 0.1 * depth, (0.16 + 0.02 * layer, 0.48 - 0.08 * layer), paint, windows=layer > 0
        )


_Scene = Callable[[Canvas, Point, frozenset[str]], None]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SCENES: dict[_Scene, frozenset[str]] = {
    _mountains: _words("mountain mountains hill hills peak valley landscape snow snowy winter dragon castle"),
    _sea: _words("sea ocean wave waves boat ship sailing beach island lighthouse harbour harbor lake river fish"),
    _dunes: _words("desert dune dunes sand camel mars planet savanna"),
    _forest: _words("forest wood woods tree trees fox deer bear owl jungle garden cabin"),
    _city: _words("city town street skyline building buildings tower tokyo paris london robot cyberpunk neon car"),
}
