"""The settings of the OpenAI-style images account: `DARKROOM_OPENAI_IMAGES_*`, or the same names in `.env`.

Header names: contract openai-images §1.
"""

from __future__ import annotations

import json
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from providers.limits import LimitSettings

PREFIX = "DARKROOM_OPENAI_IMAGES_"
_MIB = 1024 * 1024


def _header_safe(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a token is printable ASCII without spaces; check for a line break or a quote copied along")
    return token


MetadataValue = Annotated[str, StringConstraints(max_length=128)]


class OpenAIImagesSettings(LimitSettings):
    """Where pictures come from, and with which limits. Without a base URL the built-in sandbox answers."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    base_url: str | None = None
    """The API without `/images/generations`: `https://api.openai.com/v1`, or a gateway's `https://<host>/api/llm`.
    Unset: the built-in sandbox, which costs nothing."""

    token: Annotated[SecretStr, AfterValidator(_header_safe)] | None = None
    """The bearer token: an OpenAI key, or a personal or virtual-account token of the gateway."""

    metadata: dict[str, MetadataValue] | None = None
    """Sent to the gateway as `x-tfy-metadata`, together with `darkroom_reference` (the task's id): a JSON object of
    strings of at most 128 characters. Unset: the header is not sent."""

    request_timeout_ms: int | None = Field(default=None, gt=0)
    """Sent as `x-tfy-request-timeout`: how long the gateway waits for each attempt at a model, in milliseconds."""

    ttft_timeout_ms: int | None = Field(default=None, gt=0)
    """Sent as `x-tfy-ttft-timeout-ms`: how long the gateway waits for the first streamed data, in milliseconds."""

    retry_config: dict[str, JsonValue] | None = None
    """Sent as `x-tfy-retry-config`, a JSON object such as `{"attempts": 2, "onStatusCodes": [429]}`. The gateway then
    retries on its own, and what it retries after a failure on the vendor's side may be billed twice."""

    logging_config: dict[str, JsonValue] | None = None
    """Sent as `x-tfy-logging-config`, a JSON object such as `{"enabled": true}`."""

    strict_openai: bool | None = None
    """Sent as `x-tfy-strict-openai`: whether the gateway keeps strictly to OpenAI's shapes."""

    connect_timeout_seconds: float = Field(default=5, gt=0)
    """How long to wait for a connection."""

    read_timeout_seconds: float = Field(default=600, gt=0)
    """How long the upstream may stay silent. A generation commonly takes 30 to 120 seconds."""

    total_timeout_seconds: float = Field(default=1800, gt=0)
    """How long one generation may take in all, also when the upstream keeps sending."""

    frame_limit_bytes: int = Field(default=96 * _MIB, ge=_MIB)
    """The largest single event of a stream, and the largest answer without a stream per picture asked for."""

    link_max_bytes: int = Field(default=64 * _MIB, gt=0)
    """The largest file that is fetched where the answer holds a link."""

    link_timeout_seconds: float = Field(default=60, gt=0)
    """How long fetching one link may take, further attempts included."""

    allow_private_links: bool = False
    """Whether links and their redirects may lead to addresses that are not public, for a gateway in your own network.
    Links to this machine are always allowed while the upstream itself is on it."""

    @field_validator("base_url")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            sound = False
        if not sound or parts.fragment or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("write an http or https address such as https://api.openai.com/v1")
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"leave the credentials out of the address and set {PREFIX}TOKEN instead")
        if parts.path.rstrip("/").endswith("/images/generations"):
            raise ValueError("leave /images/generations out, it is added")
        return value

    @model_validator(mode="after")
    def _token_needs_an_address(self) -> Self:
        if self.token is not None and self.base_url is None:
            raise ValueError(
                f"{PREFIX}TOKEN is set, but {PREFIX}BASE_URL is not, and no address is assumed for it. Set it, for "
                "example to https://api.openai.com/v1 or https://<gateway>/api/llm, or remove the token to use the "
                "built-in sandbox"
            )
        return self

    def headers(self, reference: str) -> dict[str, str]:
        """The request headers for the task `reference`, the bearer token among them."""
        headers = {"X-Client-Request-Id": reference}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token.get_secret_value()}"
        if self.metadata is not None:
            headers["x-tfy-metadata"] = json.dumps({**self.metadata, "darkroom_reference": reference})
        if self.request_timeout_ms is not None:
            headers["x-tfy-request-timeout"] = str(self.request_timeout_ms)
        if self.ttft_timeout_ms is not None:
            headers["x-tfy-ttft-timeout-ms"] = str(self.ttft_timeout_ms)
        if self.retry_config is not None:
            headers["x-tfy-retry-config"] = json.dumps(self.retry_config)
        if self.logging_config is not None:
            headers["x-tfy-logging-config"] = json.dumps(self.logging_config)
        if self.strict_openai is not None:
            headers["x-tfy-strict-openai"] = str(self.strict_openai).lower()
        return headers
