"""How the server is reached, and what it lets in."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from graph import origins
from providers.described import DescribedEnum


class LogFormat(DescribedEnum):
    """How log lines are written."""

    TEXT = "text", "One line for a person."
    JSON = "json", "One JSON object a line, for a log collector."


class ServerSettings(BaseSettings):
    """`DARKROOM_*` settings of the room that serves clients."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", env_file=".env", extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for every network."""

    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on."""

    public_url: str | None = None
    """Where clients reach this server, for picture links, like `https://darkroom.example.com`.
    Default: whatever host they asked for."""

    allowed_origins: Annotated[list[str], NoDecode] = []
    """Web pages of these origins may use this server, like `https://app.example.com`; commas between several, `*` for
    all."""

    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    """The largest GraphQL request, in bytes; also the largest websocket message from a client."""

    connection_init_seconds: float = Field(default=10, gt=0)
    """How long a websocket may take to say `connection_init`."""

    ping_seconds: float = Field(default=20, gt=0)
    """How often a websocket that is open is pinged, and how long an event stream (SSE) may be silent before a comment
    is sent. Choose less than the idle time-out of the proxies in between."""

    pong_seconds: float = Field(default=20, gt=0)
    """How long a client may take to answer a ping before its websocket is dropped."""

    idle_socket_seconds: float = Field(default=600, gt=0)
    """How long a websocket may be open with no operation going on. It is then closed with code 1000, and graphql-ws
    clients connect again when they need it."""

    max_operations_per_socket: int = Field(default=100, ge=1)
    """Most operations at a time over one websocket."""

    max_connections_per_caller: int = Field(default=1000, ge=0)
    """Most websockets and event streams that one client address may hold; 0 for no limit. Behind a proxy that does not
    pass the clients' addresses on (`X-Forwarded-For`, from this machine), all clients have the same."""

    sandbox_url: str | None = None
    """Where the simulators are, when they run on their own (`darkroom sandbox`).
    Default: in this server, under `/sandbox`."""

    log_format: LogFormat = LogFormat.TEXT
    """`text` for a person, `json` for a log collector."""

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return origins.listed(value) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _normal(cls, value: list[str]) -> list[str]:
        return [origins.normal(one) for one in value]

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
