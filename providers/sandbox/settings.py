"""How the sandbox behaves when nobody says otherwise."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SandboxSettings(BaseSettings):
    """Read from the environment (`DARKROOM_SANDBOX_…`) and from `.env`."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_SANDBOX_",
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        use_attribute_docstrings=True,
    )

    pace: float = Field(default=0.7, ge=0, le=60)
    """Seconds between two stages of a simulated picture; a whole one takes three or four of them. 0 does not wait."""
