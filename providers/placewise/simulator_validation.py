"""What the simulated Placewise accepts: headers, tokens, encodings and parameters (contract placewise §1.3, §2, §4).

Deliberately not built on `request` and `rules`: those are Darkroom's own judgement, and this one checks it. All
problems with parameters come in one answer, as a tree that mirrors the request (§4.2).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser

import orjson
from pydantic import JsonValue
from starlette.datastructures import Headers

from providers.placewise.simulator_errors import INVALID_PARAMETERS, Refusal, leaf

REQUIRED_HEADERS = ("X-Loyalty-Club-Slug", "X-User-Agent", "X-Product-Name")
INVALID_TOKEN, NO_PERMIT = "sandbox-invalid", "sandbox-forbidden"
DISABLED_CLUB, UNKNOWN_CLUB = "sandbox-disabled", "sandbox-unknown"

_MODELS = ("small", "medium", "large")
_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "16:9", "9:16")
_PIXELS = {"thumbnail": 256, "small": 512, "medium": 1024, "large": 1440}
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_CUSTOMER = re.compile(r"[0-9]+|id=[0-9]+(_[0-9]+)*|all=all|[a-z_]+=[^=;]+(;[a-z_]+=[^=;]+)*", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]+\.[0-9]+", re.ASCII)
_LARGE = 16 * 1024

Fields = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the contract leaves open, decided for one simulator."""

    small_makes: tuple[str, ...] = ("thumbnail", "medium")
    prompt_max: int | None = None
    creativity: tuple[int, int | None] = (0, None)


@dataclass(frozen=True, slots=True)
class Order:
    """A request that was accepted, with every default decided. `random_seed` is None for another picture each time."""

    prompt: str
    model_type: str
    aspect_ratio: str
    image_size: str
    creativity: int
    photorealistic: bool
    random_seed: int | None

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height: the size is the longer side, the other one the nearest multiple of 8 (assumed, §2)."""
        longer = _PIXELS[self.image_size]
        width, height = map(int, self.aspect_ratio.split(":"))
        shorter = round(longer * min(width, height) / max(width, height) / 8) * 8
        return (longer, shorter) if width >= height else (shorter, longer)


def check_headers(headers: Headers) -> None:
    """Raise Refusal 470 for a header that is missing, 471 for one that cannot be meant."""
    for name in REQUIRED_HEADERS:
        if not headers.get(name, "").strip():
            raise Refusal(470, f"Missing required header: {name}")
    slug = headers["X-Loyalty-Club-Slug"]
    if _SLUG.fullmatch(slug) is None or slug == UNKNOWN_CLUB:
        raise Refusal(471, "Incorrect header: X-Loyalty-Club-Slug")
    if headers.get("X-Customer") and _CUSTOMER.fullmatch(headers["X-Customer"]) is None:
        raise Refusal(471, "Incorrect header: X-Customer")
    if _media_type(headers) not in ("multipart/form-data", "application/json"):
        raise Refusal(471, "Incorrect header: Content-Type")


def check_tokens(headers: Headers) -> None:
    """Raise Refusal 401, 460, 403 or 402. One kind of token is enough; what is given must be good."""
    client, user = headers.get("X-Client-Authorization", "").strip(), headers.get("Authorization", "").strip()
    if not client and not user:
        raise Refusal(401, "No authorization given: send X-Client-Authorization or Authorization")
    if client == INVALID_TOKEN or " " in client:
        raise Refusal(401)
    scheme, _, token = user.partition(" ")
    if user and (scheme.lower() != "bearer" or not token or token == INVALID_TOKEN):
        raise Refusal(460)
    if NO_PERMIT in (client, token):
        raise Refusal(403)
    if headers["X-Loyalty-Club-Slug"] == DISABLED_CLUB:
        raise Refusal(402)


async def read_fields(headers: Headers, body: bytes) -> tuple[Fields, bool]:
    """The fields of a request, and whether they are all text, as in a form. Raises Refusal 400."""
    if _media_type(headers) == "application/json":
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            raise Refusal(400) from exc
        if not isinstance(document, dict):
            raise Refusal(400)
        return document, False
    content_type = headers["Content-Type"]
    if len(body) > _LARGE:
        return await asyncio.to_thread(_form, content_type, body), True
    return _form(content_type, body), True


def checked(fields: Mapping[str, JsonValue], rules: Rules, *, text: bool) -> Order:
    """The order that `fields` make. Raises Refusal 422 with everything that is wrong. Unknown fields are ignored."""
    details: dict[str, JsonValue] = {}
    given = {name: value for name, value in fields.items() if value is not None and not (text and value == "")}

    def of(name: str, read: Callable[[JsonValue], JsonValue], default: JsonValue) -> JsonValue:
        if name not in given:
            return default
        found = read(given[name])
        if isinstance(found, dict):
            details[name] = [found]
            return default
        return found

    prompt = _prompt(fields.get("prompt"), rules)
    if isinstance(prompt, dict):
        details["prompt"] = [prompt]
    model = of("model_type", lambda value: _one_of(value, _MODELS), "small")
    ratio = of("aspect_ratio", lambda value: _one_of(value, _RATIOS), "1:1")
    small = model == "small" and "model_type" not in details
    sizes = rules.small_makes if small else tuple(_PIXELS)
    size = of("image_size", lambda value: _one_of(value, sizes), "thumbnail")
    creativity = of("creativity", lambda value: _creativity(value, rules, text=text), 2)
    photorealistic = of("photorealistic", lambda value: _flag(value, text=text), False)
    seed = of("random_seed", lambda value: _whole(value, text=text), None)
    if details:
        raise Refusal(422, INVALID_PARAMETERS, details)
    return Order(
        prompt=str(prompt),
        model_type=str(model),
        aspect_ratio=str(ratio),
        image_size=str(size),
        creativity=int(str(creativity)),
        photorealistic=photorealistic is True,
        random_seed=seed if isinstance(seed, int) else None,
    )


def _media_type(headers: Headers) -> str:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _form(content_type: str, body: bytes) -> Fields:
    head = b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n"
    form = BytesParser().parsebytes(head + body)
    if not form.is_multipart() or form.defects:
        raise Refusal(400)
    fields: Fields = {}
    for part in form.get_payload():
        if not isinstance(part, Message):
            raise Refusal(400)
        name = part.get_param("name", header="content-disposition")
        value = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(value, bytes):
            raise Refusal(400)
        try:
            fields[name] = value.decode()
        except UnicodeDecodeError as exc:
            raise Refusal(400) from exc
    return fields


def _prompt(value: JsonValue, rules: Rules) -> str | Fields:
    if value is None:
        return leaf(value, "presence", "must be present")
    if not isinstance(value, str):
        return leaf(value, "not_a_string", "must be a string")
    if not value.strip():
        return leaf(value, "blank", "can't be blank")
    if rules.prompt_max is not None and len(value) > rules.prompt_max:
        message = f"is too long (maximum is {rules.prompt_max} characters)"
        return leaf(value[:100], "too_long", message, {"count": rules.prompt_max})
    return value


def _one_of(value: JsonValue, allowed: tuple[str, ...]) -> JsonValue:
    if isinstance(value, str) and value in allowed:
        return value
    return leaf(value, "inclusion", "is not included in the list", {"in": [*allowed]})


def _whole(value: JsonValue, *, text: bool) -> JsonValue:
    if text and isinstance(value, str):
        if _WHOLE.fullmatch(value):
            return int(value)
        fraction = _NUMBER.fullmatch(value) is not None
    else:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        fraction = isinstance(value, float)
    if fraction:
        return leaf(value, "not_an_integer", "must be an integer")
    return leaf(value, "not_a_number", "is not a number")


def _creativity(value: JsonValue, rules: Rules, *, text: bool) -> JsonValue:
    found = _whole(value, text=text)
    if not isinstance(found, int):
        return found
    least, most = rules.creativity
    if found < least:
        return leaf(found, "greater_or_equal_to", f"must be greater than or equal to {least}", {"number": least})
    if most is not None and found > most:
        return leaf(found, "less_or_equal_to", f"must be less than or equal to {most}", {"number": most})
    return found


def _flag(value: JsonValue, *, text: bool) -> JsonValue:
    if text and value in ("true", "false"):
        return value == "true"
    if not text and isinstance(value, bool):
        return value
    return leaf(value, "inclusion", "is not included in the list", {"in": [True, False]})
