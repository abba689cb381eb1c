"""The rules beyond types and closed lists, and which of them this server enforces: `DARKROOM_PLACEWISE_*`.

The rule between model and size is the vendor's own, as its page words it; the limits of prompt, creativity and seed
are not on any page, so they are settings with the assumption as default (contract placewise §2, §6.3). They are read
here and not only by the adapter, because a request is judged before a task exists.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from providers.placewise.request import PlacewiseRequest

PREFIX = "DARKROOM_PLACEWISE_"
_INT64 = 2**63
SMALL_MODEL_SIZES = ("thumbnail", "medium")
"""The sizes of the small model, as the page words it; see `strict_sizes`."""


class PlacewiseRules(BaseSettings):
    """What a request must keep to, as far as the vendor's page leaves it open."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    strict_sizes: bool = True
    """Whether the small model is held to the sizes thumbnail and medium, as the vendor's page says. The sentence may
    be a misprint for "thumbnail or small"; false leaves the judgement to the vendor."""

    prompt_max_length: int | None = Field(default=None, gt=0)
    """Most characters of a prompt. Not documented, so unset: the vendor judges. 4000 would be a cautious value."""

    creativity_min: int = 0
    """The lowest creativity. Not documented; assumed."""

    creativity_max: int | None = None
    """The highest creativity. Not documented, so unset: the vendor judges."""

    random_seed_min: int = 0
    """The lowest seed that is assumed to work. Not documented: a lower one is sent all the same, with a notice."""

    random_seed_max: int = 2**31 - 1
    """The highest seed that is assumed to work. Not documented: a higher one is sent all the same, with a notice."""

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> Self:
        if self.creativity_max is not None and self.creativity_max < self.creativity_min:
            raise ValueError(f"{PREFIX}CREATIVITY_MAX is below {PREFIX}CREATIVITY_MIN, so no creativity would be valid")
        if self.random_seed_max < self.random_seed_min:
            raise ValueError(f"{PREFIX}RANDOM_SEED_MAX is below {PREFIX}RANDOM_SEED_MIN")
        return self


@functools.cache
def rules_in_force() -> PlacewiseRules:
    """The rules this process was started with. Read once: a list of a hundred stored requests is judged as well."""
    return PlacewiseRules()


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule. `code` is a stable snake_case term, `allowed` what would have been accepted."""

    field: str
    code: str
    message: str
    allowed: tuple[str, ...] = ()


def problems(request: PlacewiseRequest, rules: PlacewiseRules) -> Iterator[Problem]:
    """Everything that is wrong with `request` beyond the types and lists of its single fields."""
    if request.prompt and not request.prompt.strip():
        yield Problem("prompt", "prompt_blank", "The prompt is only white space. Say what to draw.")
    longest = rules.prompt_max_length
    if longest is not None and len(request.prompt) > longest:
        yield Problem(
            "prompt",
            "prompt_too_long",
            f"The prompt has {len(request.prompt):,} characters; {PREFIX}PROMPT_MAX_LENGTH allows {longest:,}.",
            (f"1–{longest} characters",),
        )
    if rules.strict_sizes and request.small_model and request.image_size not in (None, *SMALL_MODEL_SIZES):
        yield Problem(
            "image_size",
            "size_not_supported",
            f"The small model makes {' and '.join(SMALL_MODEL_SIZES)} pictures, not '{request.image_size}'. Choose one "
            "of them, or model_type medium or large.",
            SMALL_MODEL_SIZES,
        )
    yield from _creativity_problems(request.creativity, rules)
    if request.random_seed is not None and not -_INT64 <= request.random_seed < _INT64:
        yield Problem(
            "random_seed",
            "random_seed_too_large",
            "The seed needs more than 64 bits.",
            (f"{-_INT64} to {_INT64 - 1}",),
        )


def _creativity_problems(creativity: int | None, rules: PlacewiseRules) -> Iterator[Problem]:
    if creativity is None:
        return
    least, most = rules.creativity_min, rules.creativity_max
    if creativity < least:
        yield Problem(
            "creativity",
            "creativity_too_low",
            f"A creativity of {creativity} is below {least} ({PREFIX}CREATIVITY_MIN).",
            (f"{least} or more",),
        )
    if most is not None and creativity > most:
        yield Problem(
            "creativity",
            "creativity_too_high",
            f"A creativity of {creativity} is above {most} ({PREFIX}CREATIVITY_MAX).",
            (f"{most} or less",),
        )
