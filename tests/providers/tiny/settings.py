"""Tiny has nothing to set but what every provider has."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict

from providers.limits import LimitSettings


class TinySettings(LimitSettings):
    """`DARKROOM_TINY_*`."""

    model_config = SettingsConfigDict(env_prefix="DARKROOM_TINY_", env_file=".env", extra="ignore")
