"""The settings of the Placewise account: `DARKROOM_PLACEWISE_*`, or the same names in `.env`.

Hosts and headers: contract placewise §1.2, §1.3. The result channel: §5.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Annotated, Self
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from providers.described import DescribedEnum
from providers.limits import LimitSettings
from providers.placewise.channel import (
    Channel,
    NoChannel,
    PollChannel,
    PushChannel,
    ReportShape,
    ResultChannel,
    assumed,
)
from providers.placewise.pointer import check_pointer
from providers.placewise.rules import PREFIX, PlacewiseRules

CREATE_PATH = "/v1/ml/general/generate_image"
HOSTS = MappingProxyType(
    {
        "dev": "https://api.mpc.dev.placewise.com",
        "production": "https://api.mpc.placewise.com",
        "apac": "https://api.mpc.apac.placewise.com",
    }
)
"""The vendor's own hosts, by the short names that `base_url` takes."""

_MIB = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class Encoding(DescribedEnum):
    """How the parameters are sent; the vendor's pages contradict each other (contract placewise §6.1)."""

    MULTIPART = "multipart", "As form fields, as the page of this endpoint says."
    JSON = "json", "As a JSON object, as the vendor's general rules say."


def _token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a token is printable ASCII without spaces; leave 'Bearer' out, and check for a line break")
    return token


def _header_value(text: str) -> str:
    if not text.isascii() or not text.isprintable() or text != text.strip() or not text:
        raise ValueError("a header value is printable ASCII without white space around it")
    return text


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise ValueError("write a name of letters, digits, hyphens and underscores")
    return text


def _listed(value: object) -> object:
    """`a,b` or `["a", "b"]`."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as exc:
            raise ValueError("write values with commas between them, or a JSON list") from exc
    return [part.strip() for part in value.split(",") if part.strip()]


Token = Annotated[SecretStr, AfterValidator(_token)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
Name = Annotated[str, AfterValidator(_name)]
Pointer = Annotated[str, AfterValidator(check_pointer)]
Values = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]


class PlacewiseSettings(LimitSettings, PlacewiseRules):
    """Where pictures come from, how the result is obtained, and with which limits."""

    base_url: str | None = None
    """The API: `dev`, `production` or `apac` for the vendor's own hosts, or any other address, without the path of
    the endpoint. Unset: the built-in sandbox, which costs nothing."""

    client_token: Token | None = None
    """The client token, from the vendor's support; sent as `X-Client-Authorization`. With a base URL, this or the
    user token is needed. Its permits must include `ML:ImageGeneration:Post`."""

    user_token: Token | None = None
    """A user's token (a JWT), sent as `Authorization: Bearer …`; its role must have `ML:ImageGeneration:Post`."""

    loyalty_club_slug: HeaderValue | None = None
    """The loyalty club that pays, such as `infinity-mall`; sent as `X-Loyalty-Club-Slug`. Needed with a base URL."""

    user_agent: HeaderValue = "darkroom"
    """Name and version of this client, sent as `X-User-Agent`."""

    product_name: HeaderValue = "default"
    """The product name agreed with the vendor, sent as `X-Product-Name`."""

    customer: HeaderValue | None = None
    """Sent as `X-Customer`, such as `id=1000941`; not needed for a loyalty club."""

    locale: HeaderValue | None = None
    """Sent as `X-Locale`."""

    encoding: Encoding = Encoding.MULTIPART
    """How the parameters are sent: `multipart` or `json`."""

    results: ResultChannel | None = None
    """How the finished picture is obtained: `none`, `poll` or `push`. The vendor documents no way, so for an account
    it is `none` when unset; ask the vendor's support, then describe the way with the settings below. The sandbox has
    a way of its own: it is polled when this is unset, and ignores the pointers, names and addresses below."""

    poll_url_template: str | None = None
    """For `poll`: the address to ask, with `{id}` for the task id; absolute, or a path below the base URL. The tokens
    are sent along only to the base URL's own scheme, host and port."""

    poll_interval_seconds: float | None = Field(default=None, gt=0)
    """For `poll`: the time between two questions; 5 when unset, 0.5 in the sandbox. The vendor asks for 5 or more
    elsewhere."""

    status_pointer: Pointer | None = None
    """For `poll` and `push`: the JSON pointer to the state in a report, such as `/image_generation_task/status`. Unset:
    the first report with a picture is the last."""

    done_values: Values = ()
    """The states that mean finished, separated by commas. Every state that is listed nowhere means: not yet."""

    failed_values: Values = ()
    """The states that mean that no picture will come, separated by commas."""

    image_pointer: Pointer | None = None
    """For `poll` and `push`: the JSON pointer to the picture in a report: a link, a data URI or base64. A report that
    is a picture file itself needs none."""

    reason_pointer: Pointer | None = None
    """The JSON pointer to the reason in a report of failure."""

    deadline_seconds: float = Field(default=3600, gt=0)
    """How long after acceptance the result is waited for."""

    doubt_seconds: float | None = Field(default=None, ge=0)
    """For `poll`: how long an accepted task that is unknown (404), or finished without a picture that can be had, is
    asked for again before that is believed; 300 when unset, 3 in the sandbox. Raise it where the address is unknown
    until the picture is there."""

    callback_header: Name | None = None
    """For `push`: the request header in which the vendor is told the callback URL of the task."""

    callback_field: Name | None = None
    """For `push`: the field of the request in which the vendor is told the callback URL of the task."""

    connect_timeout_seconds: float = Field(default=5, gt=0)
    """How long to wait for a connection."""

    read_timeout_seconds: float = Field(default=60, gt=0)
    """How long one answer may take to arrive. It holds a task id, or a report; generating goes on elsewhere."""

    link_max_bytes: int = Field(default=64 * _MIB, gt=0)
    """The largest picture file that is taken."""

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
        value = HOSTS.get(value.lower(), value)
        parts = _url(value)
        if parts is None:
            raise ValueError(f"write {', '.join(HOSTS)} or an http or https address such as {HOSTS['dev']}")
        if parts != (None, None):
            raise ValueError(f"leave the credentials out of the address and set {PREFIX}CLIENT_TOKEN instead")
        if "?" in value or value.rstrip("/").endswith(("/generate_image", "/v1")):
            raise ValueError(f"leave {CREATE_PATH} and any query out, the path is added")
        return value.rstrip("/")

    @field_validator("poll_url_template")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        if value is None:
            return None
        rest = value.replace("{id}", "0")
        if rest == value or "{" in rest or "}" in rest:
            raise ValueError("write the address with {id} where the task id goes, and no other braces")
        if _url(f"http://x{rest}" if rest.startswith("/") else rest) != (None, None):
            raise ValueError("write an http or https address without credentials, or a path that begins with a slash")
        return value

    @model_validator(mode="after")
    def _an_account_is_whole(self) -> Self:
        if self.base_url is None:
            if self.client_token is not None or self.user_token is not None:
                raise ValueError(
                    f"{PREFIX}CLIENT_TOKEN or {PREFIX}USER_TOKEN is set, but {PREFIX}BASE_URL is not, and no address "
                    f"is assumed for it. Set it to {', '.join(HOSTS)} or an address, or remove the token to use the "
                    "built-in sandbox"
                )
            return self
        if self.client_token is None and self.user_token is None:
            raise ValueError(f"{PREFIX}BASE_URL is set: set {PREFIX}CLIENT_TOKEN or {PREFIX}USER_TOKEN as well")
        if self.loyalty_club_slug is None:
            raise ValueError(f"{PREFIX}BASE_URL is set: set {PREFIX}LOYALTY_CLUB_SLUG as well; the vendor requires it")
        if self.results is ResultChannel.POLL and (self.poll_url_template is None or self.image_pointer is None):
            raise ValueError(f"{PREFIX}RESULTS=poll needs {PREFIX}POLL_URL_TEMPLATE and {PREFIX}IMAGE_POINTER")
        if self.results is ResultChannel.PUSH and self.callback_header is None and self.callback_field is None:
            raise ValueError(
                f"{PREFIX}RESULTS=push needs {PREFIX}CALLBACK_HEADER or {PREFIX}CALLBACK_FIELD: each task has a "
                "callback URL of its own, and the vendor has to be told"
            )
        return self

    @model_validator(mode="after")
    def _states_make_sense(self) -> Self:
        if self.status_pointer is None and (self.done_values or self.failed_values):
            raise ValueError(f"{PREFIX}DONE_VALUES and {PREFIX}FAILED_VALUES need {PREFIX}STATUS_POINTER")
        if self.status_pointer is not None and not self.done_values:
            raise ValueError(f"{PREFIX}STATUS_POINTER needs {PREFIX}DONE_VALUES, or no task would ever be finished")
        both = sorted({*self.done_values} & {*self.failed_values})
        if both:
            raise ValueError(f"{PREFIX}DONE_VALUES and {PREFIX}FAILED_VALUES both list {', '.join(both)}")
        return self

    def headers(self) -> dict[str, str]:
        """The headers of every request to the account, the tokens among them (contract placewise §1.3)."""
        headers = {"X-User-Agent": self.user_agent, "X-Product-Name": self.product_name}
        for name, value in (
            ("X-Loyalty-Club-Slug", self.loyalty_club_slug),
            ("X-Customer", self.customer),
            ("X-Locale", self.locale),
        ):
            if value is not None:
                headers[name] = value
        if self.client_token is not None:
            headers["X-Client-Authorization"] = self.client_token.get_secret_value()
        if self.user_token is not None:
            headers["Authorization"] = f"Bearer {self.user_token.get_secret_value()}"
        return headers

    def secrets(self) -> tuple[str, ...]:
        """What must never show."""
        return tuple(token.get_secret_value() for token in (self.client_token, self.user_token) if token is not None)

    def channel(self) -> Channel:
        """How results are obtained: as configured, or for the sandbox in its own way."""
        if self.base_url is None:
            return assumed(
                self.results,
                interval=self.poll_interval_seconds,
                deadline=self.deadline_seconds,
                doubt=self.doubt_seconds,
            )
        shape = ReportShape(
            self.status_pointer, self.done_values, self.failed_values, self.image_pointer, self.reason_pointer
        )
        if self.results is ResultChannel.POLL and self.poll_url_template is not None:
            return PollChannel(
                self.poll_url_template,
                shape,
                interval=self.poll_interval_seconds or 5,
                deadline=self.deadline_seconds,
                doubt=300 if self.doubt_seconds is None else self.doubt_seconds,
            )
        if self.results is ResultChannel.PUSH:
            return PushChannel(shape, self.deadline_seconds, self.callback_header, self.callback_field)
        return NoChannel()


def _url(text: str) -> tuple[str | None, str | None] | None:
    """User and password in an http or https URL; None for what is no such URL."""
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return None
    if not sound or parts.fragment or not text.isascii() or not text.isprintable() or " " in text:
        return None
    return parts.username, parts.password
