"""How much an account may be asked for at a time: the same two settings for every provider."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


@dataclass(frozen=True, slots=True)
class Limits:
    """What one account takes, on all nodes together. None means: no limit."""

    concurrency: int | None = None
    """Most generations that run at the same time."""
    per_minute: int | None = None
    """Most generations that are started in a minute."""


class LimitSettings(BaseSettings):
    """The limits of an account, for the settings of each provider to inherit; they add their own prefix."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    concurrency: int | None = Field(default=None, ge=1)
    """Most generations that run at this account at the same time, on all nodes together; default: no limit."""

    per_minute: int | None = Field(default=None, ge=1)
    """Most generations that are started at this account in a minute, on all nodes together; default: no limit."""

    @property
    def limits(self) -> Limits:
        """Both as the rest of Darkroom takes them."""
        return Limits(self.concurrency, self.per_minute)
