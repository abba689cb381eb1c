"""Tiny has nothing to set."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict


class TinySettings(BaseSettings):
    """`DARKROOM_TINY_*`."""

    model_config = SettingsConfigDict(env_prefix="DARKROOM_TINY_", extra="ignore")
