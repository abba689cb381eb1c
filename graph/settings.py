"""How the server is reached, and what it lets in."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from providers.described import DescribedEnum


class LogFormat(DescribedEnum):
    """How log lines are written."""

    TEXT = "text", "One line for a person."
    JSON = "json", "One JSON object a line, for a log collector."


class ServerSettings(BaseSettings):
    """`DARKROOM_*` settings of the room that serves clients."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", env_file=".env", extra="ignore", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for every network."""

    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on."""

    public_url: str | None = None
    """Where clients reach this server, for picture links, like `https://darkroom.example.com`.
    Default: whatever host they asked for."""

    allowed_origins: list[str] = []
    """Web pages of these origins may use this server, as a JSON list like `["https://app.example.com"]`."""

    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    """The largest GraphQL request, in bytes; also the largest websocket message from a client."""

    sandbox_url: str | None = None
    """Where the simulators are, when they run on their own (`darkroom sandbox`).
    Default: in this server, under `/sandbox`."""

    log_format: LogFormat = LogFormat.TEXT
    """`text` for a person, `json` for a log collector."""

    @field_validator("public_url", "sandbox_url")
    @classmethod
    def _without_slash(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("write an http or https address such as https://darkroom.example.com")
        return value.rstrip("/")

    def base_url(self, port: int | None = None) -> str:
        """Where this machine reaches this server."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{port or self.port}"
