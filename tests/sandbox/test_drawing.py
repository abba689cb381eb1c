"""The pictures: real files, the same every time, that can be read and that develop."""

from __future__ import annotations

import io
import itertools
from typing import Literal

import pytest
from PIL import Image, ImageChops, ImageStat

from providers.sandbox.drawing import Drawing, ImageFormat, drawn
from providers.sandbox.lettering import letter

pytestmark = pytest.mark.anyio
PROMPT = "A lighthouse in a storm"


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def distance(first: Image.Image, second: Image.Image) -> float:
    """Mean difference per pixel and colour, 0–255."""
    return sum(ImageStat.Stat(ImageChops.difference(first.convert("RGB"), second.convert("RGB"))).mean) / 3


async def test_the_same_drawing_gives_the_same_bytes() -> None:
    drawing = Drawing(PROMPT, 256, 256, seed=7)
    finished = await drawn(drawing)
    early = await drawn(drawing, progress=0.5)
    await drawn(Drawing("something else", 256, 256))
    assert await drawn(Drawing(PROMPT, 256, 256, seed=7)) == finished
    assert await drawn(drawing, progress=0.5) == early


@pytest.mark.parametrize(
    "other",
    [
        Drawing("A lighthouse in the sun", 256, 256, seed=7),
        Drawing(PROMPT, 256, 256, seed=8),
        Drawing(PROMPT, 256, 256, seed=7, index=1),
    ],
    ids=["prompt", "seed", "index"],
)
async def test_another_prompt_seed_or_index_gives_another_picture(other: Drawing) -> None:
    first = opened(await drawn(Drawing(PROMPT, 256, 256, seed=7)))
    assert distance(first, opened(await drawn(other))) > 1


@pytest.mark.parametrize("size", [(256, 256), (1024, 1536), (1536, 512), (512, 1536), (3840, 2160), (16, 16)])
async def test_a_picture_has_the_size_that_was_asked_for(size: tuple[int, int]) -> None:
    for progress in (0.3, 1.0):
        assert opened(await drawn(Drawing(PROMPT, *size), "jpeg", progress=progress)).size == size


@pytest.mark.parametrize("image_format", ["png", "webp", "jpeg"])
async def test_every_format_is_what_it_says(image_format: ImageFormat) -> None:
    image = opened(await drawn(Drawing(PROMPT, 320, 240), image_format))
    assert image.format == image_format.upper()
    assert image.mode == "RGB"


@pytest.mark.parametrize("image_format", ["webp", "jpeg"])
async def test_compression_trades_detail_for_bytes(image_format: Literal["webp", "jpeg"]) -> None:
    drawing = Drawing(PROMPT, 320, 240)
    sizes = [len(await drawn(drawing, image_format, compression=level)) for level in (0, 50, 100)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("image_format", ["png", "webp"])
async def test_a_transparent_picture_lies_on_nothing(image_format: Literal["png", "webp"]) -> None:
    drawing = Drawing(PROMPT, 320, 240, transparent=True)
    for progress in (0.4, 1.0):
        alpha = opened(await drawn(drawing, image_format, progress=progress)).getchannel("A")
        assert alpha.getpixel((0, 0)) == 0
        assert alpha.getpixel((160, 120)) == 255


@pytest.mark.parametrize("prompt", [PROMPT, "city at night", "desert noon", "northern lights over a forest", "x" * 900])
async def test_each_stage_is_closer_to_the_finished_picture_than_the_one_before(prompt: str) -> None:
    drawing = Drawing(prompt, 512, 512)
    stages = [opened(await drawn(drawing, progress=progress)) for progress in (0.25, 0.5, 0.75, 1.0)]
    distances = [distance(stage, stages[-1]) for stage in stages]
    assert all(later < earlier * 0.85 for earlier, later in itertools.pairwise(distances))
    assert distances[0] > 25, "the first stage is hardly different from the finished picture"


async def test_the_words_of_the_prompt_are_set_below_the_scene_in_dark_on_light() -> None:
    picture = opened(await drawn(Drawing(PROMPT, 512, 512))).convert("L")
    caption = picture.crop((0, 438, 512, 475))
    assert ImageStat.Stat(caption).extrema[0][0] < 80
    assert ImageStat.Stat(caption).extrema[0][1] > 220
    blank = opened(await drawn(Drawing(" ", 512, 512))).convert("L").crop((0, 438, 512, 475))
    assert ImageStat.Stat(blank).extrema[0][0] > 200, "nothing is written where there is nothing to write"


def test_a_short_prompt_is_set_large_and_a_long_one_smaller_but_complete() -> None:
    short = letter("A fox", width=900, height=240, largest=44, smallest=18)
    text = "a fox in deep snow, soft light, " * 8
    long = letter(text, width=900, height=240, largest=44, smallest=18)
    assert short.font.size == 44
    assert long.font.size < 44
    assert " ".join(long.lines) == text.strip()
    assert all(long.font.getlength(line) <= 900 for line in long.lines)


@pytest.mark.parametrize("text", ["word " * 6400, "x" * 32000])
def test_a_prompt_that_cannot_fit_ends_with_an_ellipsis(text: str) -> None:
    lettering = letter(text, width=900, height=240, largest=44, smallest=18)
    assert lettering.lines[-1].endswith("…")
    assert lettering.height <= 240
    assert all(lettering.font.getlength(line) <= 900 for line in lettering.lines)


def test_letters_the_font_lacks_are_written_with_those_it_has() -> None:
    lettering = letter("Café — crème brûlée 🦊", width=2000, height=100, largest=40, smallest=20)
    assert lettering.lines == ("Cafe - creme brulee (fox face)",)


@pytest.mark.parametrize("size", [(15, 512), (512, 5000)])
def test_a_size_nobody_can_draw_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="both sides must be 16 to 4096"):
        Drawing(PROMPT, *size)
