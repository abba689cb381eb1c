"""What pydantic finds wrong with an input, told in the names and values that a GraphQL client writes.

The providers' own messages name parameters and values as they are sent upstream, because rules are written there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import ErrorDetails
from strawberry.pydantic.conversion import _to_python_data
from strawberry.pydantic.error import InputValidationError, ValidationErrorDetail
from strawberry.types.arguments import InputContext
from strawberry.utils.str_converters import to_camel_case

from providers.parameters import Parameter, ParameterType, parameters_of
from providers.registry import PROVIDERS

_BOUNDS = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal"})
_LENGTHS = frozenset({"string_too_short", "string_too_long"})


@dataclass
class Detail(ValidationErrorDetail):
    """Strawberry's detail of a pydantic error, which keeps only text, with the valid values."""

    allowed: list[str] | None = None


def explain(model: type[BaseModel]) -> None:
    """Let the problems of an input model be told in the client's own words, with the valid values."""
    definition = model.__strawberry_definition__  # type: ignore[attr-defined]
    build: Callable[[type[BaseModel], Mapping[str, Any], InputContext], BaseModel] = definition.from_input

    def from_input(model: type[BaseModel], value: Mapping[str, Any], context: InputContext) -> BaseModel:
        try:
            return build(model, value, context)
        except InputValidationError as exc:
            exc.errors = [
                _detail(detail, error) for detail, error in zip(exc.errors, _errors(model, value, context), strict=True)
            ]
            raise

    definition.from_input = from_input


def place(path: list[str]) -> str:
    """Where a problem is, in short: below the argument, and for a parameter below its provider."""
    below = path[3:] if path[1:2] == ["request"] else path[1:]
    return ".".join(below or path[-1:])


def _errors(model: type[BaseModel], value: Mapping[str, Any], context: InputContext) -> list[ErrorDetails]:
    """Pydantic's own errors. Strawberry drops them, so the input is validated again."""
    try:
        model.model_validate(_to_python_data(model, value, context, ()), by_alias=False, by_name=True)
    except PydanticValidationError as exc:
        return exc.errors(include_url=False)
    return []


def _detail(detail: ValidationErrorDetail, error: ErrorDetails) -> Detail:
    match error["loc"]:
        case ("request", str(provider), str(name), *_):
            parameters = _parameters(provider)
        case _:
            parameters, name = {}, ""
    parameter = parameters.get(name)
    context = error.get("ctx") or {}
    given: list[str] = context.get("allowed") or []
    if "message" in context:
        message = _translated(detail.message, parameters, parameter if given else None)
    else:
        message = _with_value(detail.message, error, parameter)
    return Detail(
        location=detail.location, message=message, type=detail.type, allowed=_values(given, parameter) or None
    )


@functools.cache
def _parameters(provider: str) -> Mapping[str, Parameter]:
    """The parameters of a provider by their names in its request model."""
    found = next((each for each in PROVIDERS if each.name == provider), None)
    return {} if found is None else {each.name: each for each in parameters_of(found.request)}


def _values(given: Iterable[str], parameter: Parameter | None) -> list[str]:
    """The valid values as a client writes them; none of them where one is no value, but a range or a rule in words."""
    known = [_value(each, parameter) for each in given]
    return [each for each in known if each is not None] if None not in known else []


def _value(given: str, parameter: Parameter | None) -> str | None:
    if parameter is None:
        return given
    match parameter.type:
        case ParameterType.ENUM:
            return {option.value: option.name for option in parameter.options}.get(given)
        case ParameterType.INTEGER | ParameterType.NUMBER:
            return given if re.fullmatch(r"-?\d+(\.\d+)?", given) else None
        case ParameterType.BOOLEAN:
            return given if given in ("true", "false") else None
        case _:
            return given if given in parameter.suggestions else None


def _translated(message: str, parameters: Iterable[str], listed: Parameter | None) -> str:
    """A message with the names of the GraphQL fields; and where it lists values of an enum, with the members' names.

    What is quoted is somebody's own text, unless it is one of those values.
    """
    words = {name: to_camel_case(name) for name in parameters if "_" in name}
    quoted: dict[str, str] = {}
    if listed is not None:
        quoted = {option.value: option.name for option in listed.options}
        words |= quoted
    either = "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"

    def in_the_schema(found: re.Match[str]) -> str:
        if found["text"] is not None:
            return quoted.get(found["text"], found[0])
        return words[found[0]]

    return re.sub(rf"(?<!\w)'(?P<text>[^']*)'(?!\w)|(?<![\w:-])(?:{either})(?![\w-])", in_the_schema, message)


def _with_value(message: str, error: ErrorDetails, parameter: Parameter | None) -> str:
    """Pydantic's message with the value that was given, and the whole range where there is one.

    A text is never repeated, because nobody knows what is in it: only its length is told.
    """
    given, kind = error["input"], error["type"]
    if kind in _LENGTHS and isinstance(given, str):
        return f"{message}, not {len(given):,}"
    if kind == "value_error" or not isinstance(given, int | float):
        return message
    if kind in _BOUNDS and parameter is not None and None not in (parameter.minimum, parameter.maximum):
        message = f"Input should be from {parameter.minimum:,} to {parameter.maximum:,}"
    return f"{message}, not {str(given).lower() if isinstance(given, bool) else given}"
