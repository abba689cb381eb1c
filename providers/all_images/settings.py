"""The settings of the All-Images.ai account: `DARKROOM_ALL_IMAGES_*`, or the same names in `.env`.

An account is configured once an API key is set; its address is then the documented one. An address alone is used as
well, without a key: for a proxy that adds it, or a sandbox that runs by itself. Without either the built-in sandbox
answers. What the contract could not find out is a setting with the value it suggests (contract all-images §7).
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from providers.limits import LimitSettings

PREFIX = "DARKROOM_ALL_IMAGES_"
DOCUMENTED_URL = "https://api.all-images.ai/v1"
_MIB = 1024 * 1024


def _header_safe(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("an API key is printable ASCII without spaces; check for a line break or a quote copied along")
    return key


class AllImagesSettings(LimitSettings):
    """Where pictures come from, and with which patience. Without a key and an address the built-in sandbox answers."""

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
    """The API without `/image-generations`. Unset: `https://api.all-images.ai/v1` where an API key is set, else the
    built-in sandbox, which costs nothing."""

    api_key: Annotated[SecretStr, AfterValidator(_header_safe)] | None = None
    """The API key of the account, sent as the header `api-key`. Setting it is what turns the sandbox off."""

    webhooks: bool = True
    """Whether to subscribe to the vendor's webhooks where this server can be reached from outside. They only make it
    look sooner: everything works without them."""

    poll_first_seconds: float = Field(default=5, gt=0, le=600)
    """How long to wait before the first look at a generation; the waits then grow by half each time. With an API on
    this machine, such as the sandbox, looks are more frequent unless this is set."""

    poll_longest_seconds: float = Field(default=15, gt=0, le=600)
    """The longest wait between two looks; where the first is longer, every wait is like the first."""

    deadline_seconds: float = Field(default=900, gt=0)
    """How long to watch one generation before it is given up."""

    relax_deadline_seconds: float = Field(default=7200, gt=0)
    """The same for process mode RELAX."""

    lookup_seconds: float = Field(default=10, ge=0, le=600)
    """How long to look for a generation whose creation got no answer, before its outcome is called unknown."""

    doubt_seconds: float = Field(default=300, ge=0)
    """How long a generation that is suddenly unknown, or done without pictures that can be had, is looked at again
    before that is believed. With the sandbox 1 unless this is set."""

    connect_timeout_seconds: float = Field(default=5, gt=0)
    """How long to wait for a connection."""

    read_timeout_seconds: float = Field(default=60, gt=0)
    """How long one answer may take in all."""

    download_seconds: float = Field(default=120, gt=0)
    """How long buying one picture may take, further attempts included; they are free of charge (contract all-images
    §1: "debited once")."""

    no_credits_status: int = Field(default=402, ge=400, le=499)
    """The HTTP status of a creation that no credits are left for. Not documented; 402 is what downloads answer."""

    unknown_id_status: int = Field(default=404, ge=400, le=499)
    """The HTTP status for a generation that does not exist. Not documented."""

    list_limit: int = Field(default=20, ge=1, le=100)
    """How many generations to ask for at a time when one is looked for. Default and maximum are not documented."""

    link_max_bytes: int = Field(default=64 * _MIB, gt=0)
    """The largest picture file that is fetched or downloaded."""

    link_timeout_seconds: float = Field(default=60, gt=0)
    """How long fetching one link may take, further attempts included."""

    allow_private_links: bool = False
    """Whether links and their redirects may lead to addresses that are not public. Links to this machine are always
    allowed while the API itself is on it."""

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
        if not sound or parts.fragment or parts.query or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError(f"write an http or https address such as {DOCUMENTED_URL}")
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"leave the credentials out of the address and set {PREFIX}API_KEY instead")
        if parts.path.rstrip("/").endswith("/image-generations"):
            raise ValueError("leave /image-generations out, it is added")
        return value

    @property
    def address(self) -> str | None:
        """Where the configured account is; None for the built-in sandbox."""
        if self.base_url is not None:
            return self.base_url
        return DOCUMENTED_URL if self.api_key is not None else None

    def nearby(self, pace: float) -> AllImagesSettings:
        """The same for an API on this machine that takes `pace` seconds per stage: impatient where nothing was set."""
        first = min(1.0, max(0.02, pace / 3))
        quick = {
            "poll_first_seconds": first,
            "poll_longest_seconds": max(2 * first, 0.1),
            "lookup_seconds": 1.0,
            "doubt_seconds": 1.0,
        }
        if {"poll_first_seconds", "poll_longest_seconds"} & self.model_fields_set:
            del quick["poll_first_seconds"], quick["poll_longest_seconds"]
        return self.model_copy(
            update={name: value for name, value in quick.items() if name not in self.model_fields_set}
        )
