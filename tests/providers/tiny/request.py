"""The parameters of Tiny."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from providers.described import DescribedEnum


class TinyColour(DescribedEnum):
    """What Tiny can paint with."""

    RED = "#ff0000", "Like a safelight."
    BLUE = "#0000ff", "Like the sky."


class TinyRequest(BaseModel):
    """Everything Tiny can be asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt: str = Field(min_length=1, max_length=100)
    """What to paint; Tiny does not care."""
    colour: TinyColour = TinyColour.RED
    """What to paint it with."""
    side: int = Field(default=32, ge=1, le=64)
    """Pixels of each side."""
    seconds: float = Field(default=0, ge=0, le=50)
    """How long it takes to dry. Until then Tiny can be stopped."""
