"""Small things in a scene: trees, boats, birds, buildings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import ImageDraw

from providers.sandbox.canvas import Canvas, Point, noise_line
from providers.sandbox.palette import Colour, mix


def stroke(canvas: Canvas, line: Sequence[Point], paint: Colour, thickness: float, *, opacity: float = 1) -> None:
    """A line `thickness` hundredths of the shorter side thick."""

    def draw(pen: ImageDraw.ImageDraw, scale: float) -> None:
        width = max(1, round(thickness * canvas.unit * scale))
        pen.line([(x * scale, y * scale) for x, y in line], fill=255, width=width, joint="curve")

    canvas.fill(draw, [paint], opacity=opacity)


def pines(
    canvas: Canvas, ground: Callable[[float], float], paint: Colour, *, count: int, tall: tuple[float, float]
) -> None:
    """`count` conifers that stand on `ground`, `tall` in units from shortest to tallest."""
    dice, unit = canvas.dice, canvas.unit
    trees = [(dice.random() * canvas.width, dice.uniform(*tall) * unit) for _ in range(count)]

    def draw(pen: ImageDraw.ImageDraw, scale: float) -> None:
        for x, height in trees:
            foot = ground(x) + 1.5 * unit
            for tier in range(5):
                top = foot - height * (1 - tier * 0.17)
                bottom = foot - height * (0.66 - tier * 0.165)
                half = height * (0.085 + 0.042 * tier)
                points = [(x, top), (x + half, bottom), (x + half * 0.35, bottom - height * 0.03)]
                points += [(2 * x - px, py) for px, py in reversed(points)]
                pen.polygon([(px * scale, py * scale) for px, py in points], fill=255)

    canvas.fill(draw, [paint])


def birds(canvas: Canvas, x: float, y: float) -> None:
    """A loose flock."""
    dice, unit = canvas.dice, canvas.unit
    paint = mix(canvas.palette.near, canvas.palette.haze, 0.25)
    for _ in range(dice.randint(3, 6)):
        at_x, at_y = x + dice.uniform(-11, 11) * unit, y + dice.uniform(-5, 5) * unit
        span = dice.uniform(1.0, 2.1) * unit
        wing = [(t, -0.5 * math.sin(abs(t) * math.pi * 0.8)) for t in (-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1)]
        stroke(canvas, [(at_x + dx * span, at_y + dy * span) for dx, dy in wing], paint, 0.32)


def balloon(canvas: Canvas, x: float, y: float, radius: float) -> None:
    """A hot-air balloon in stripes."""
    warm, cool = mix(canvas.palette.light, (214, 64, 52), 0.78), mix(canvas.palette.light, (245, 190, 80), 0.5)
    for stripe, half in enumerate((1.0, 0.72, 0.4, 0.13)):
        outline = []
        for step in range(61):
            angle = step / 60 * math.tau
            narrow = 1.0 if math.sin(angle) < 0 else 1 - 0.42 * math.sin(angle) ** 2
            outline.append((x + math.cos(angle) * radius * half * narrow, y + math.sin(angle) * radius * 1.12))
        paint = (warm, cool)[stripe % 2]
        canvas.polygon(outline, paint, mix(paint, canvas.palette.near, 0.35), top=y - radius, bottom=y + radius * 1.2)
    basket = y + radius * 1.55
    rope = mix(canvas.palette.near, canvas.palette.haze, 0.2)
    for side in (-1, 1):
        stroke(canvas, [(x + side * radius * 0.24, y + radius * 1.06), (x + side * radius * 0.15, basket)], rope, 0.16)
    half = radius * 0.19
    corners = [
        (x - half, basket),
        (x + half, basket),
        (x + half * 0.8, basket + half * 1.5),
        (x - half * 0.8, basket + half * 1.5),
    ]
    canvas.polygon(corners, rope)


def boat(canvas: Canvas, x: float, y: float, tall: float) -> None:
    """A small sailing boat whose waterline is at `y`."""
    palette = canvas.palette
    sail = mix(palette.light, palette.haze, 0.15) if not palette.night else mix(palette.light, palette.far, 0.45)
    shade = mix(sail, palette.near, 0.28)
    mast, deck = (x, y - tall), y - tall * 0.16
    bulge = [
        (x + tall * 0.4 * math.sin(t * math.pi / 2), y - tall * (0.97 - 0.75 * t)) for t in (0, 0.2, 0.4, 0.6, 0.8, 1)
    ]
    canvas.polygon([mast, *bulge, (x + tall * 0.02, deck - tall * 0.05)], sail, shade, top=y - tall, bottom=y)
    jib = [
        (x - tall * 0.02, y - tall * 0.9),
        (x - tall * 0.03, deck - tall * 0.06),
        (x - tall * 0.3, deck - tall * 0.06),
    ]
    canvas.polygon(jib, shade)
    stroke(canvas, [(x, y - tall * 1.02), (x, deck)], palette.near, 0.3)
    hull = [(x - tall * 0.38, deck), (x + tall * 0.44, deck), (x + tall * 0.3, y), (x - tall * 0.28, y)]
    canvas.polygon(hull, mix(palette.near, (150, 44, 40), 0.4), palette.near, top=deck, bottom=y)


def _rock(canvas: Canvas, x: float, y: float) -> None:
    """What a lighthouse stands on: its top is at `x`, `y`, its flanks go down into the water."""
    palette, unit = canvas.palette, canvas.unit
    rough = noise_line(canvas.dice, 61, waves=9, roughness=0.6)
    outline = []
    for step, bump in enumerate(rough):
        across = step / 30 - 1
        fall = max(0.0, abs(across) - 0.13) ** 1.5 * (canvas.height - y + 6 * unit) * 1.35
        outline.append(
            (x + across * 36 * unit, y - 1.5 * unit + fall + (bump - 0.5) * 6 * unit * min(1.0, fall / unit))
        )
    lowest = canvas.height + 8 * unit
    outline += [(x + 36 * unit, lowest), (x - 36 * unit, lowest)]
    canvas.polygon(outline, mix(palette.near, palette.far, 0.3), palette.near, top=y - 2 * unit)


def rain(canvas: Canvas) -> None:
    """Slanting streaks over everything."""
    dice, unit = canvas.dice, canvas.unit

    def draw(pen: ImageDraw.ImageDraw, scale: float) -> None:
        for _ in range(170):
            x, y, length = dice.random() * canvas.width * 1.2, dice.random() * canvas.height, dice.uniform(2, 6) * unit
            ends = [x * scale, y * scale, (x - length * 0.35) * scale, (y + length) * scale]
            pen.line(ends, fill=255, width=max(1, round(0.16 * unit * scale)))

    canvas.fill(draw, [mix(canvas.palette.light, canvas.palette.haze, 0.5)], opacity=0.28)


def lighthouse(canvas: Canvas, x: float, y: float, tall: float) -> None:
    """A striped tower on a rock; its lamp is lit, and at night it has a beam."""
    palette, unit = canvas.palette, canvas.unit
    lamp = y - tall * 0.93
    if palette.night or palette.name in {"dusk", "crimson"}:
        for side in (-1, 1):
            far = x + side * canvas.width
            canvas.polygon(
                [(x, lamp), (far, lamp - tall * 0.32), (far, lamp + tall * 0.12)], palette.light, opacity=0.16
            )
    _rock(canvas, x, y)
    white, red = mix(palette.light, palette.haze, 0.2), mix((186, 52, 48), palette.near, 0.2)
    dark = 0.42 if palette.night else 0.1
    bands = 6
    for band in range(bands):
        top, bottom = band / bands, (band + 1) / bands
        outline = []
        for level, side in ((top, -1), (top, 1), (bottom, 1), (bottom, -1)):
            outline.append((x + side * tall * (0.07 + 0.045 * level), y - tall * 0.86 * (1 - level)))
        canvas.polygon(outline, mix(white if band % 2 else red, palette.near, dark))
    balcony = y - tall * 0.86
    for half, top, bottom, paint in (
        (0.095, balcony - tall * 0.025, balcony + tall * 0.01, palette.near),
        (0.05, balcony - tall * 0.115, balcony - tall * 0.025, palette.light),
    ):
        canvas.polygon(
            [(x - half * tall, top), (x + half * tall, top), (x + half * tall, bottom), (x - half * tall, bottom)],
            paint,
        )
    roof = balcony - tall * 0.115
    canvas.polygon([(x - tall * 0.068, roof), (x, roof - tall * 0.085), (x + tall * 0.068, roof)], red)
    canvas.glow(x, lamp, 16 * unit, palette.light, 0.75)


def glints(canvas: Canvas, x: float, horizon: float) -> None:
    """The path of light on the water below the sun."""
    dice, unit = canvas.dice, canvas.unit

    def draw(pen: ImageDraw.ImageDraw, scale: float) -> None:
        for _ in range(110):
            fall = dice.random() ** 1.4
            y = horizon + unit + fall * (canvas.height - horizon) * 0.8
            half = dice.uniform(0.5, 3.4) * (0.6 + fall) * unit
            middle = x + dice.gauss(0, 1) * (2.2 + 7 * fall) * unit
            thick = (0.1 + 0.22 * fall) * unit
            box = (middle - half, y - thick, middle + half, y + thick)
            pen.rounded_rectangle([value * scale for value in box], radius=thick * scale, fill=255)

    canvas.fill(draw, [canvas.palette.light], opacity=0.5)


def skyline(canvas: Canvas, base: float, rise: tuple[float, float], paint: Colour, *, windows: bool) -> None:
    """A row of buildings that end `rise` (lowest, highest) above `base`, all as fractions of the picture's height."""
    dice, unit, palette = canvas.dice, canvas.unit, canvas.palette
    buildings: list[tuple[float, float, float]] = []
    x = -dice.uniform(0, 6) * unit
    while x < canvas.width:
        width = dice.uniform(6, 13) * unit
        top = (base - dice.uniform(*rise) * dice.uniform(0.55, 1)) * canvas.height
        buildings.append((x, top, width))
        x += width + dice.choice((0, 0, 0.5, 1.6)) * unit
    spires = [dice.random() < 0.25 for _ in buildings]

    def walls(pen: ImageDraw.ImageDraw, scale: float) -> None:
        for (left, top, width), spire in zip(buildings, spires, strict=True):
            pen.rectangle([left * scale, top * scale, (left + width) * scale, canvas.height * scale], fill=255)
            if spire:
                middle, reach = left + width / 2, 0.25 * unit
                pen.rectangle(
                    [(middle - reach) * scale, (top - 7 * unit) * scale, (middle + reach) * scale, top * scale],
                    fill=255,
                )
                pen.rectangle(
                    [
                        (left + width * 0.25) * scale,
                        (top - 2 * unit) * scale,
                        (left + width * 0.75) * scale,
                        top * scale,
                    ],
                    fill=255,
                )

    canvas.fill(walls, [paint, mix(paint, palette.haze, 0.3)], top=(base - rise[1]) * canvas.height)
    if not windows:
        return

    def lights(pen: ImageDraw.ImageDraw, scale: float) -> None:
        side, step = 0.75 * unit, 1.9 * unit
        for left, top, width in buildings:
            columns = int((width - step) / step)
            inset = (width - columns * step + (step - side)) / 2
            y = top + 1.6 * unit
            while y < canvas.height:
                for column in range(columns):
                    if dice.random() < 0.42:
                        at = left + inset + column * step
                        pen.rectangle([at * scale, y * scale, (at + side) * scale, (y + side * 1.3) * scale], fill=255)
                y += step * 1.25

    canvas.fill(lights, [mix(palette.light, (255, 205, 110), 0.55)], opacity=0.8 if palette.night else 0.55)
