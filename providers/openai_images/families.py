"""What each model family of the OpenAI Images API accepts, as one table.

A vendor ships a model: add its name to a family, or add a family with `replace(...)` and list it in
`FAMILIES`. Nothing else has to change; the rules, the catalogue and the request body are derived from it.

Sources: contract openai-images §2.1 (domains by family), §2.3 (what the vendor refuses and how).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_SIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", re.ASCII)
_SNAPSHOT = re.compile(r"-[0-9]{4}-[0-9]{2}-[0-9]{2}$", re.ASCII)


@dataclass(frozen=True, slots=True)
class FreeSize:
    """Any `WIDTHxHEIGHT` in pixels within these bounds (contract openai-images §2.1, free size rule)."""

    multiple_of: int = 16
    max_ratio: int = 3
    max_edge: int = 3840
    min_pixels: int = 655_360
    max_pixels: int = 8_294_400

    def problems(self, size: str) -> tuple[str, ...]:
        """Every rule that `size` breaks, each as a clause with the number that broke it."""
        match = _SIZE.fullmatch(size)
        if match is None:
            return ("it is not WIDTHxHEIGHT, such as 1824x1024",)
        width, height = int(match[1]), int(match[2])
        long, short, pixels = max(width, height), min(width, height), width * height
        broken = []
        if width % self.multiple_of or height % self.multiple_of:
            broken.append(f"both sides must be divisible by {self.multiple_of}")
        if long > self.max_edge:
            broken.append(f"no side may exceed {self.max_edge} pixels")
        if long > self.max_ratio * short:
            broken.append(f"the sides may differ by a factor of {self.max_ratio} at most")
        if pixels > self.max_pixels:
            broken.append(f"{pixels:,} pixels are more than {self.max_pixels:,}")
        if pixels < self.min_pixels:
            broken.append(f"{pixels:,} pixels are fewer than {self.min_pixels:,}")
        return tuple(broken)


@dataclass(frozen=True, slots=True)
class Family:
    """Models that share one set of rules. An empty tuple means: the parameter itself is refused."""

    name: str
    models: tuple[str, ...]
    """Exact names; a dated snapshot of one (`-2026-04-21`) belongs to the family as well."""
    prompt_max: int
    """Characters."""
    sizes: tuple[str, ...]
    """The named sizes; with `free_size` any size within its bounds is allowed besides."""
    qualities: tuple[str, ...]
    free_size: FreeSize | None = None
    max_images: int = 10
    styles: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    """Output formats, the default one first."""
    backgrounds: tuple[str, ...] = ()
    moderations: tuple[str, ...] = ()
    streams: bool = False
    max_partial_images: int = 0
    response_format: bool = False
    """Whether `response_format` may be sent at all."""
    sends_quality: bool = True
    """False where the vendor documents a quality and refuses the key (contract openai-images §6.8)."""
    live: bool = True
    """False where the vendor has retired it; other providers behind a gateway may still serve it."""


DALL_E_2 = Family(
    name="dall-e-2",
    models=("dall-e-2",),
    prompt_max=1_000,
    sizes=("256x256", "512x512", "1024x1024"),
    qualities=("standard",),
    sends_quality=False,
    response_format=True,
    live=False,
)
DALL_E_3 = Family(
    name="dall-e-3",
    models=("dall-e-3",),
    prompt_max=4_000,
    sizes=("1024x1024", "1792x1024", "1024x1792"),
    qualities=("standard", "hd", "auto"),
    max_images=1,
    styles=("vivid", "natural"),
    response_format=True,
    live=False,
)
GPT_IMAGE_1 = Family(
    name="gpt-image-1",
    models=("gpt-image-1",),
    prompt_max=32_000,
    sizes=("auto", "1024x1024", "1536x1024", "1024x1536"),
    qualities=("auto", "low", "medium", "high"),
    formats=("png", "jpeg", "webp", "gif", "svg"),
    backgrounds=("auto", "opaque", "transparent"),
    moderations=("auto", "low"),
    streams=True,
    max_partial_images=3,
    live=False,
)
GPT_IMAGE_1_5 = replace(
    GPT_IMAGE_1,
    name="gpt-image-1.5",
    models=("gpt-image-1.5", "chatgpt-image-latest", "gpt-image-1-mini"),
    live=True,
)
GPT_IMAGE_2 = replace(GPT_IMAGE_1_5, name="gpt-image-2", models=("gpt-image-2",), free_size=FreeSize())
GPT_IMAGE_2_5 = replace(
    GPT_IMAGE_2,
    name="gpt-image-2.5",
    models=("gpt-image-2.5-sunburst", "gpt-image-2.5-flare"),
    qualities=("auto", "low", "medium", "high", "xhigh", "max"),
)
GPT_IMAGE_2_6 = replace(GPT_IMAGE_2_5, name="gpt-image-2.6", models=("gpt-image-2.6-sunburst", "gpt-image-2.6-flare"))

FAMILIES: tuple[Family, ...] = (
    GPT_IMAGE_2_6,
    GPT_IMAGE_2_5,
    GPT_IMAGE_2,
    GPT_IMAGE_1_5,
    GPT_IMAGE_1,
    DALL_E_3,
    DALL_E_2,
)
"""Newest first: the order in which the catalogue suggests them."""

_BY_MODEL = {model: family for family in FAMILIES for model in family.models}


def family_of(model: str) -> Family | None:
    """The family `model` belongs to, or None for a model this table does not know.

    A gateway's `<account>/` prefix is ignored (`openai-main/gpt-image-1`), and so is a snapshot date. Of an
    unknown model only the API's general rules are known, and the upstream judges the rest.
    """
    name = model.rpartition("/")[2]
    return _BY_MODEL.get(name) or _BY_MODEL.get(_SNAPSHOT.sub("", name))


def known_models() -> list[str]:
    """Every model name in the table, live ones first and newest first among them."""
    families = sorted(FAMILIES, key=lambda family: not family.live)
    return [model for family in families for model in family.models]


def known_sizes() -> list[str]:
    """Every named size, those of newer families first."""
    return list(dict.fromkeys(size for family in FAMILIES for size in family.sizes))


def known_qualities() -> list[str]:
    """Every quality, those of newer families first."""
    return list(dict.fromkeys(quality for family in FAMILIES for quality in family.qualities))


def known_formats() -> list[str]:
    """Every output format, the default first."""
    return list(dict.fromkeys(format_ for family in FAMILIES for format_ in family.formats))
