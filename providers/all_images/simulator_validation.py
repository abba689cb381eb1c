"""What the simulated vendor accepts, judged on the wire, with every complaint at once as NestJS makes them.

Sources: contract all-images §2.1, §2.2 (domains), §4 (the texts are class-validator's own), §6 (what is decided where
the vendor contradicts itself). It is written without the request model, so that the two can disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

PARAM_VALUES: Mapping[str, tuple[str, ...]] = {
    "templatePrompt": ("realisticQuality", "realisticManuel"),
    "format": ("1:1", "3:2", "2:3", "4:7", "7:4", "5:4", "4:5", "16:9", "9:16"),
    "weather": ("sunny", "cloudy", "foggy", "rainy", "thunderstorm", "snowy"),
    "time": ("sunrise", "morning", "afternoon", "sunset", "evening", "golden hour", "night", "midnight"),
}
PARAM_NUMBERS: Mapping[str, int] = {"chaos": 100, "stylize": 1000}
PARAM_NAMES = (
    "sujetMode", "templatePrompt", "angle", "photographe", "time", "weather", "format", "camera", "interdiction",
    "version", "chaos", "stylize", "fromImageUrl",
)  # fmt: skip
SIZES: Mapping[str, tuple[int, int]] = {
    "1:1": (1024, 1024),
    "3:2": (1344, 896),
    "2:3": (896, 1344),
    "4:7": (832, 1456),
    "7:4": (1456, 832),
    "5:4": (1200, 960),
    "4:5": (960, 1200),
    "16:9": (1304, 744),
    "9:16": (744, 1304),
}
"""Width and height of the full picture (contract all-images §2.2)."""

_KNOWN = (
    "name", "mode", "prompt", "additionalPrompt", "optimizePrompt", "params", "processMode", "tags", "metaData"
)  # fmt: skip
_REQUIRED = ("name", "mode", "prompt")
_FLAG = re.compile(r"(?:^|\s)(--[a-zA-Z]\w*)")


class Refusal(Exception):
    """A request the vendor refuses: `message` is one sentence or a list of them, `error` the name of the status."""

    def __init__(self, status: int, message: str | list[str], error: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error = error


@dataclass(frozen=True, slots=True)
class Strictness:
    """What to make of requests the contract says nothing about."""

    strict: bool = False
    """Refuse what the vendor is assumed to ignore: parameters of simple mode in advanced mode, values that are no
    text, unknown fields, a parameter named twice."""
    seed_time: bool = False
    """Accept `Time`, as the vendor's guide writes it, for `time` (contract all-images §6.1)."""


def complaints(body: Mapping[str, JsonValue], rules: Strictness, *, partial: bool = False) -> list[str]:
    """Everything that is wrong with a body. With `partial`, as in an update, nothing has to be there."""
    found: list[str] = []
    for field in _REQUIRED:
        if not partial or field in body:
            found += _text(body, field)
    if "mode" in body and body["mode"] not in ("simple", "advanced"):
        found.append("mode must be one of the following values: simple, advanced")
    found += _longest(body, "prompt", 4096)
    if body.get("additionalPrompt") is not None:
        if not isinstance(body["additionalPrompt"], str):
            found.append("additionalPrompt must be a string")
        found += _longest(body, "additionalPrompt", 1024)
    if body.get("optimizePrompt") is not None and not isinstance(body["optimizePrompt"], bool):
        found.append("optimizePrompt must be a boolean value")
    if body.get("processMode") is not None and body["processMode"] not in ("fast", "relax"):
        found.append("processMode must be one of the following values: fast, relax")
    found += _params(body.get("params"), rules)
    found += _tags(body.get("tags"))
    if body.get("metaData") is not None and not isinstance(body["metaData"], dict):
        found.append("metaData must be an object")
    found += _of_mode(body, rules)
    if rules.strict:
        found += [f"property {field} should not exist" for field in body if field not in _KNOWN]
    return found


def params_of(body: Mapping[str, JsonValue]) -> dict[str, str]:
    """The parameters of a valid body by name; of two with one name the last counts."""
    listed = body.get("params")
    found: dict[str, str] = {}
    for each in listed if isinstance(listed, list) else []:
        if isinstance(each, dict):
            name = str(each.get("name"))
            found["time" if name == "Time" else name] = str(each.get("value"))
    return found


def _text(body: Mapping[str, JsonValue], field: str) -> Iterator[str]:
    value = body.get(field)
    if value is None or value == "":
        yield f"{field} should not be empty"
    if not isinstance(value, str):
        yield f"{field} must be a string"


def _longest(body: Mapping[str, JsonValue], field: str, most: int) -> Iterator[str]:
    value = body.get(field)
    if isinstance(value, str) and len(value) > most:
        yield f"{field} must be shorter than or equal to {most} characters"


def _params(params: JsonValue, rules: Strictness) -> Iterator[str]:
    if params is None:
        return
    if not isinstance(params, list):
        yield "params must be an array"
        return
    seen: set[str] = set()
    for number, each in enumerate(params):
        name = each.get("name") if isinstance(each, dict) else None
        known = (*PARAM_NAMES, "Time") if rules.seed_time else PARAM_NAMES
        if not isinstance(each, dict) or not isinstance(name, str) or name not in known:
            yield f"params.{number}.name must be one of the following values: {', '.join(known)}"
            continue
        name = "time" if name == "Time" else name
        if name in seen and rules.strict:
            yield f"params.{name} must be given once"
        seen.add(name)
        yield from _value(name, each.get("value"), rules)


def _value(name: str, value: JsonValue, rules: Strictness) -> Iterator[str]:
    if not isinstance(value, str):
        if rules.strict or isinstance(value, bool) or not isinstance(value, int):
            yield f"params.{name} must be a string"
            return
        value = str(value)
    if not value:
        yield f"params.{name} should not be empty"
    elif name in PARAM_VALUES and value not in PARAM_VALUES[name]:
        yield f"params.{name} must be one of the following values: {', '.join(PARAM_VALUES[name])}"
    elif name in PARAM_NUMBERS:
        most = PARAM_NUMBERS[name]
        if re.fullmatch(r"[0-9]{1,6}", value, re.ASCII) is None or int(value) > most:
            yield f"params.{name} must be an integer between 0 and {most}"


def _tags(tags: JsonValue) -> Iterator[str]:
    if tags is None:
        return
    if not isinstance(tags, list):
        yield "tags must be an array"
    elif not all(isinstance(tag, str) for tag in tags):
        yield "each value in tags must be a string"


def _of_mode(body: Mapping[str, JsonValue], rules: Strictness) -> Iterator[str]:
    prompt = body.get("prompt")
    if body.get("mode") == "simple" and isinstance(prompt, str):
        flags = _FLAG.findall(prompt)
        if flags:
            yield f"prompt must not contain Midjourney parameters in simple mode: {', '.join(flags)}"
    if body.get("mode") == "advanced" and rules.strict:
        for name in params_of(body):
            yield f"params.{name} is not available in advanced mode"
        if body.get("optimizePrompt"):
            yield "optimizePrompt is not available in advanced mode"
