"""Where a Darkroom keeps what it must not lose, and how much it does at once."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class TaskSettings(BaseSettings):
    """`DARKROOM_*` settings of the room that keeps tasks."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", env_file=".env", extra="ignore", use_attribute_docstrings=True
    )

    home: Path = Path(".darkroom")
    """The data folder. Everything the other settings do not place elsewhere is kept in it."""

    database_url: str | None = None
    """Where tasks and events are kept: `sqlite:///path/to/file.db` or `postgresql://…`.
    Default: `darkroom.db` in the data folder."""

    storage_url: str | None = None
    """Where images are kept: `file:///folder`, `s3://bucket/prefix`, or any other URL obstore knows.
    Default: the folder `images` in the data folder."""

    concurrency: int = Field(default=32, ge=1, le=1000)
    """Most generations that run at the same time; the others wait in the queue."""

    shutdown_seconds: float = Field(default=5.0, ge=0, le=600)
    """How long a stopping server waits for running generations before it leaves them to the next start."""

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("sqlite:///", "postgresql://")):
            raise ValueError("write sqlite:///path/to/file.db or postgresql://user:password@host/name")
        return value

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{(self.home / 'darkroom.db').resolve()}"

    @property
    def storage(self) -> str:
        """The picture store URL in force."""
        return self.storage_url or (self.home / "images").resolve().as_uri()
