"""The rules between the parameters, by model family: every problem of a request at once.

Sources: contract openai-images §2 (fields), §2.1 (families), §2.3 (refusals). Problems carry
the value, the rule and what is allowed, because the person who reads them has only that to go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from providers.openai_images.families import Family, family_of

if TYPE_CHECKING:
    from providers.openai_images.request import OpenAIImagesRequest

_COMPRESSED = ("jpeg", "webp")
_TRANSPARENT = ("png", "webp")
_ANIMATED_OR_DRAWN = ("gif", "svg")


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule. `code` is a stable snake_case term, `allowed` what would have been accepted."""

    field: str
    code: str
    message: str
    allowed: tuple[str, ...] = ()


def problems(request: OpenAIImagesRequest) -> list[Problem]:
    """Everything that is wrong with `request` beyond the types and bounds of its single fields."""
    family = family_of(request.model)
    found = [] if family is None else [*_domain_problems(request, family), *_format_problems(request, family)]
    can_stream = family is None or family.streams
    if can_stream and request.partial_images and request.stream is False:
        found.append(
            Problem(
                "partial_images",
                "requires_streaming",
                f"partial_images: {request.partial_images} needs a stream, and stream: false forbids it. "
                "Leave stream out, set it to true, or ask for 0 partial images.",
                ("0",),
            )
        )
    return found


def _domain_problems(request: OpenAIImagesRequest, family: Family) -> Iterator[Problem]:
    """Each parameter against the family's own domain."""
    if len(request.prompt) > family.prompt_max:
        yield Problem(
            "prompt",
            "prompt_too_long",
            f"The prompt has {len(request.prompt):,} characters; {family.name} takes {family.prompt_max:,} at most.",
            (f"1–{family.prompt_max} characters",),
        )
    if request.n is not None and request.n > family.max_images:
        yield Problem(
            "n",
            "value_not_supported",
            f"{family.name} makes {family.max_images} picture per request, not {request.n}.",
            tuple(str(n) for n in range(1, family.max_images + 1)),
        )
    yield from _size_problems(request.size, family)
    for field, value, allowed in (
        ("quality", request.quality, family.qualities),
        ("style", request.style, family.styles),
        ("background", request.background, family.backgrounds),
        ("moderation", request.moderation, family.moderations),
        ("output_format", request.output_format, family.formats),
    ):
        if value is None or value in allowed:
            continue
        if allowed:
            yield Problem(
                field,
                "value_not_supported",
                f"{family.name} does not know {field} '{value}'. Supported: {', '.join(allowed)}.",
                allowed,
            )
        else:
            yield _not_supported(field, family)
    if request.output_compression is not None and not family.formats:
        yield _not_supported("output_compression", family)
    if request.response_format is not None and not family.response_format:
        yield _not_supported("response_format", family, " It always answers with the picture itself, in base64.")
    if request.stream and not family.streams:
        yield _not_supported("stream", family)
    yield from _partial_problems(request.partial_images, family)


def _partial_problems(partial_images: int | None, family: Family) -> Iterator[Problem]:
    if not partial_images or partial_images <= family.max_partial_images:
        return
    if not family.max_partial_images:
        yield _not_supported("partial_images", family)
        return
    yield Problem(
        "partial_images",
        "value_not_supported",
        f"{family.name} sends {family.max_partial_images} partial images per picture at most, not {partial_images}.",
        tuple(str(count) for count in range(family.max_partial_images + 1)),
    )


def _size_problems(size: str | None, family: Family) -> Iterator[Problem]:
    if size is None or size in family.sizes:
        return
    if family.free_size is None:
        message = f"'{size}' is not a size of {family.name}. Supported: {', '.join(family.sizes)}."
        yield Problem("size", "size_not_supported", message, family.sizes)
        return
    broken = family.free_size.problems(size)
    if broken:
        rule = family.free_size
        message = (
            f"'{size}' is not a size of {family.name}: {'; '.join(broken)}. Supported: auto, or WIDTHxHEIGHT with both "
            f"sides divisible by {rule.multiple_of}, no side over {rule.max_edge}, a ratio between 1:{rule.max_ratio} "
            f"and {rule.max_ratio}:1, and {rule.min_pixels:,} to {rule.max_pixels:,} pixels in all."
        )
        yield Problem("size", "size_not_supported", message, (*family.sizes, "WIDTHxHEIGHT"))


def _format_problems(request: OpenAIImagesRequest, family: Family) -> Iterator[Problem]:
    """What the output format forbids. A format the family does not know is reported as such and no further."""
    if not family.formats:
        return
    output_format = request.output_format or family.formats[0]
    if output_format not in family.formats:
        return
    if request.background == "transparent" and output_format not in _TRANSPARENT:
        yield Problem(
            "background",
            "requires_output_format",
            f"A transparent background needs output_format png or webp, not {output_format}.",
            tuple(value for value in family.backgrounds if value != "transparent"),
        )
    compression = request.output_compression
    if compression is not None and output_format not in _COMPRESSED and (output_format, compression) != ("png", 100):
        yield Problem(
            "output_compression",
            "requires_output_format",
            f"output_compression: {compression} needs output_format jpeg or webp, not {output_format}.",
            ("100",) if output_format == "png" else (),
        )
    if output_format not in _ANIMATED_OR_DRAWN:
        return
    if request.stream:
        yield Problem("stream", "requires_output_format", f"{output_format} pictures cannot be streamed.", ("false",))
    if request.partial_images:
        yield Problem(
            "partial_images", "requires_output_format", f"{output_format} pictures have no partial images.", ("0",)
        )
    if output_format == "svg" and request.n is not None and request.n > 1:
        yield Problem("n", "requires_output_format", f"svg pictures are made one at a time, not {request.n}.", ("1",))


def _not_supported(field: str, family: Family, why: str = "") -> Problem:
    return Problem(
        field, "parameter_not_supported", f"{family.name} does not take the parameter {field}. Leave it out.{why}"
    )
