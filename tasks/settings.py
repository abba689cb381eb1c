"""Where a Darkroom keeps what it must not lose, and how much it does at once."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from tasks.postgresql import place

STORAGE_URL = "write file:///folder, s3://bucket/prefix, or another URL that obstore knows"
DATABASE_URL = "write sqlite:///path/to/file.db or postgresql://user:password@host:port/name"


class TaskSettings(BaseSettings):
    """`DARKROOM_*` settings of the room that keeps tasks."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", env_file=".env", extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True
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
    """Most generations of one provider that a node runs at the same time; the others wait in the queue."""

    queue_seconds: float = Field(default=86_400, gt=0)
    """Longest wait in the queue; a task that has waited longer fails with QUEUE_TIMED_OUT, and nothing was billed."""

    generation_seconds: float = Field(default=10_800, gt=0)
    """Longest generation, from the request that pays to the last picture; then the task fails with
    GENERATION_TIMED_OUT."""

    total_seconds: float = Field(default=100_000, gt=0)
    """Longest life of a task, waiting and generation together; then it fails with TOTAL_TIMED_OUT."""

    retry_attempts: int = Field(default=5, ge=1, le=100)
    """How often a request is sent that the provider turns away without making anything. 1: never again."""

    retry_seconds: float = Field(default=60, ge=0, le=3_600)
    """Longest pause between two attempts; a provider that asks for a longer one makes the task fail instead."""

    storage_patience_seconds: float = Field(default=60, ge=0)
    """How long a finished picture is held in memory while the picture store refuses it, before it is given up."""

    lease_seconds: float = Field(default=10, ge=2)
    """A node that says nothing to the database for so long is taken for dead, and the others take over its tasks.
    PostgreSQL only."""

    shutdown_seconds: float = Field(default=5.0, ge=0, le=600)
    """How long a stopping server waits for running generations before it hands them over to another node, or to the
    next start."""

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            url = make_url(value)
        except (ArgumentError, ValueError) as exc:  # its message would show the password
            raise ValueError(DATABASE_URL) from exc
        file = url.database not in (None, "", ":memory:")
        if not (url.drivername == "postgresql" or (url.drivername == "sqlite" and not url.host and file)):
            raise ValueError(DATABASE_URL)
        return value

    @field_validator("storage_url")
    @classmethod
    def _storage_with_scheme(cls, value: str | None) -> str | None:
        if value is not None and "://" not in value:
            raise ValueError(STORAGE_URL)
        return value

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{(self.home / 'darkroom.db').resolve()}"

    @property
    def database_place(self) -> str:
        """Where the database in force is, for a person: no user, no password."""
        url = make_url(self.database)
        return str(url.database) if self.local else place(url)

    @property
    def local(self) -> bool:
        """Whether the database is a file, which one server has to itself."""
        return self.database.startswith("sqlite")

    @property
    def storage(self) -> str:
        """The picture store URL in force."""
        return self.storage_url or (self.home / "images").resolve().as_uri()
