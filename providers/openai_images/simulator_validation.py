"""What the simulated vendor refuses, in its order and in its words; one error per answer, as it does.

The facts about models come from `families`; everything else is contract openai-images §2.2 (order) and §2.3
(envelopes). Deliberately not built on `rules`: those are Darkroom's own judgement, and this one checks it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from providers.openai_images.families import Family, FreeSize, family_of

Era = Literal["all", "2025", "2026"]
"""Which vendor is simulated. `all`: every model in the table, whether retired or not, and `model` is required.
`2025`: the same, but without `model` it is dall-e-2, as it was. `2026`: retired models do not exist any more."""

_USER_ERROR = "image_generation_user_error"
_SHARED_KEYS = ("model", "prompt", "n", "size", "quality", "user")
_GPT_KEYS = ("background", "moderation", "output_format", "output_compression", "stream", "partial_images")
_GPT_ONLY_KEYS = (*_GPT_KEYS, "safety_identifier", "complexity")
_PREVIEW_FORMATS = ("gif", "svg")
_PREVIEW_TRANSPARENT = ("gpt-image-2",)
"""Families whose transparent backgrounds need preview access, which the simulated account has only if told so."""
_TYPE_NAMES: dict[type, str] = {
    bool: "a boolean", int: "an integer", float: "a decimal number", str: "a string",
    list: "an array", dict: "an object", type(None): "null",
}  # fmt: skip


class Refusal(Exception):
    """A request the vendor turns down: an HTTP status and the four fields of its error body."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None,
        code: str | None,
        type_: str = "invalid_request_error",
        status: int = 400,
        details: Mapping[str, JsonValue] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.type = type_
        self.status = status
        self.details = dict(details or {})


@dataclass(frozen=True, slots=True)
class Order:
    """A request that was accepted, with every `auto` and every default decided."""

    model: str
    family: Family
    prompt: str
    n: int
    width: int
    height: int
    quality: str
    background: Literal["opaque", "transparent"]
    output_format: Literal["png", "webp", "jpeg"]
    compression: int
    stream: bool
    partial_images: int
    as_url: bool
    user: str | None

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


def checked_model(body: Mapping[str, JsonValue], *, era: Era, account_prefix: bool) -> tuple[str, Family]:
    """The model and its family. `account_prefix` says whether `account/model` is a model here, as at a gateway."""
    model = body.get("model")
    if model is None and era == "2025":
        model = "gpt-image-1" if any(body.get(key) is not None for key in _GPT_ONLY_KEYS) else "dall-e-2"
    if model is None:
        raise Refusal("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    if not isinstance(model, str):
        raise _wrong_type("model", "a string", model)
    family = family_of(model) if account_prefix or "/" not in model else None
    if family is None or (era == "2026" and not family.live):
        message = f"The model '{model}' does not exist."
        raise Refusal(message, param="model", code="invalid_value", type_=_USER_ERROR)
    return model, family


def checked(body: Mapping[str, JsonValue], model: str, family: Family, *, previews: bool) -> Order:
    """The order that `body` makes of a model, or the first thing that is wrong with it."""
    gpt = bool(family.formats)
    _check_keys(body, family)
    prompt = _prompt(body, family)
    given = {key: value for key, value in body.items() if value is not None}
    n = _integer(given, "n", 1, family.max_images) or 1
    quality = _one_of(given, "quality", family.qualities)
    output_format = _one_of(given, "output_format", tuple(f for f in family.formats if f not in _PREVIEW_FORMATS))
    background = _one_of(given, "background", family.backgrounds)
    _one_of(given, "moderation", family.moderations)
    _one_of(given, "complexity", ("low", "medium", "high"))
    compression = _integer(given, "output_compression", 0, 100)
    partial_images = _integer(given, "partial_images", 0, family.max_partial_images) or 0
    stream = _boolean(given, "stream")
    width, height = _size(given, family, prompt)
    _one_of(given, "style", family.styles)
    response_format = _one_of(given, "response_format", ("url", "b64_json"))
    file_format: Literal["png", "webp", "jpeg"] = (
        "webp" if output_format == "webp" else "jpeg" if output_format == "jpeg" else "png"
    )
    transparent = background == "transparent"
    if transparent:
        _check_transparent(family, file_format, previews=previews)
    if file_format == "png" and compression is not None and compression < 100:
        message = "Compression less than 100 is not supported for PNG output format"
        raise Refusal(message, param=None, code="invalid_png_output_compression", type_=_USER_ERROR)
    if partial_images and not stream:
        message = "Partial images are only supported with streaming"
        raise Refusal(message, param="partial_images", code="invalid_value")
    user = given.get("safety_identifier") or given.get("user")
    return Order(
        model=model,
        family=family,
        prompt=prompt,
        n=n,
        width=width,
        height=height,
        quality=("medium" if gpt else "standard") if quality is None or quality == "auto" else quality,
        background="transparent" if transparent else "opaque",
        output_format=file_format,
        compression=100 if compression is None else compression,
        stream=stream,
        partial_images=partial_images,
        as_url=not gpt and response_format != "b64_json",
        user=user if isinstance(user, str) else None,
    )


def _check_keys(body: Mapping[str, JsonValue], family: Family) -> None:
    """A key the model does not have is refused, even when its value is null; dall-e ignores null."""
    known = set(_SHARED_KEYS)
    if family.formats:
        known.update(_GPT_ONLY_KEYS)
    if family.response_format:
        known.add("response_format")
    if family.styles:
        known.add("style")
    for key, value in body.items():
        if key not in known and (family.formats or value is not None):
            raise Refusal(f"Unknown parameter: '{key}'.", param=key, code="unknown_parameter")


def _prompt(body: Mapping[str, JsonValue], family: Family) -> str:
    if "prompt" not in body:
        raise Refusal("Missing required parameter: 'prompt'.", param="prompt", code="missing_required_parameter")
    prompt = body["prompt"]
    if not isinstance(prompt, str):
        raise _wrong_type("prompt", "a string", prompt)
    if not prompt:
        message = (
            "Invalid 'prompt': empty string. Expected a string with minimum length 1, but got an empty string instead."
        )
        raise Refusal(message, param="prompt", code="empty_string")
    if len(prompt) > family.prompt_max:
        message = (
            f"Invalid 'prompt': string too long. Expected a string with maximum length {family.prompt_max}, "
            f"but got a string with length {len(prompt)} instead."
        )
        raise Refusal(message, param="prompt", code="string_above_max_length")
    return prompt


def _wrong_type(key: str, expected: str, value: JsonValue) -> Refusal:
    message = f"Invalid type for '{key}': expected {expected}, but got {_TYPE_NAMES[type(value)]} instead."
    return Refusal(message, param=key, code="invalid_type")


def _integer(given: Mapping[str, JsonValue], key: str, least: int, most: int) -> int | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(key, "an integer", value)
    if value < least:
        message = f"Invalid '{key}': integer below minimum value. Expected a value >= {least}, but got {value} instead."
        raise Refusal(message, param=key, code="integer_below_min_value")
    if value > most:
        message = f"Invalid '{key}': integer above maximum value. Expected a value <= {most}, but got {value} instead."
        raise Refusal(message, param=key, code="integer_above_max_value")
    return value


def _boolean(given: Mapping[str, JsonValue], key: str) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise _wrong_type(key, "a boolean", value)
    return value


def _one_of(given: Mapping[str, JsonValue], key: str, allowed: tuple[str, ...]) -> str | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong_type(key, "a string", value)
    if value not in allowed:
        message = f"Invalid value: '{value}'. Supported values are: {_listed(_VENDOR_ORDER.get(key, ()), allowed)}."
        raise Refusal(message, param=key, code="invalid_value")
    return value


_VENDOR_ORDER = {
    "quality": ("standard", "hd", "low", "medium", "high", "xhigh", "max", "auto"),
    "output_format": ("png", "webp", "jpeg"),
    "background": ("transparent", "opaque", "auto"),
    "moderation": ("auto", "low"),
    "size": ("1024x1024", "1024x1536", "1536x1024", "auto"),
}
"""The order in which the vendor's messages list what it supports (contract openai-images §2.3)."""


def _listed(order: tuple[str, ...], allowed: tuple[str, ...]) -> str:
    names = [
        f"'{name}'" for name in sorted(allowed, key=lambda name: order.index(name) if name in order else len(order))
    ]
    if len(names) > 2:
        return f"{', '.join(names[:-1])}, and {names[-1]}"
    return " and ".join(names)


def _size(given: Mapping[str, JsonValue], family: Family, prompt: str) -> tuple[int, int]:
    """Width and height. `auto` follows the prompt where it says how the picture should lie."""
    size = given.get("size")
    if size is not None and not isinstance(size, str):
        raise _wrong_type("size", "a string", size)
    if size is None or (size == "auto" and "auto" in family.sizes):
        return _automatic(family, prompt)
    if size not in family.sizes:
        if family.free_size is not None:
            _check_free_size(size, family.free_size)
        elif family.formats:
            message = f"Invalid value: '{size}'. Supported values are: {_listed(_VENDOR_ORDER['size'], family.sizes)}."
            raise Refusal(message, param="size", code="invalid_value")
        else:
            raise Refusal("The size is not supported by this model.", param=None, code="invalid_size")
    width, _, height = size.partition("x")
    return int(width), int(height)


def _automatic(family: Family, prompt: str) -> tuple[int, int]:
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    if "auto" in family.sizes and words & {"portrait", "poster", "tall", "vertical"}:
        return 1024, 1536
    if "auto" in family.sizes and words & {"landscape", "panorama", "wide", "horizontal"}:
        return 1536, 1024
    return 1024, 1024


def _check_free_size(size: str, rule: FreeSize) -> None:
    match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", size, re.ASCII)
    if match is None:
        raise _bad_size(size, "Expected WIDTHxHEIGHT, for example '1824x1024'.")
    width, height = int(match[1]), int(match[2])
    if width % rule.multiple_of or height % rule.multiple_of:
        raise _bad_size(size, f"Width and height must both be divisible by {rule.multiple_of}.")
    if max(width, height) > rule.max_edge:
        raise _bad_size(size, f"Width and height must not exceed {rule.max_edge}.")
    if max(width, height) > rule.max_ratio * min(width, height):
        raise _bad_size(size, f"The aspect ratio must be between 1:{rule.max_ratio} and {rule.max_ratio}:1.")
    if not rule.min_pixels <= width * height <= rule.max_pixels:
        raise _bad_size(size, f"The number of pixels must be between {rule.min_pixels} and {rule.max_pixels}.")


def _bad_size(size: str, problem: str) -> Refusal:
    return Refusal(f"Invalid size '{size}'. {problem}", param="size", code="invalid_value", type_=_USER_ERROR)


def _check_transparent(family: Family, file_format: str, *, previews: bool) -> None:
    if family.name in _PREVIEW_TRANSPARENT and not previews:
        message = "Transparent background is not supported for this model."
        raise Refusal(message, param="background", code="invalid_value", type_=_USER_ERROR)
    if file_format == "jpeg":
        message = "Transparent background is not supported for JPEG output format."
        raise Refusal(message, param="background", code="invalid_value", type_=_USER_ERROR)
