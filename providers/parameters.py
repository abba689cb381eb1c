"""The parameters of a provider in the form a frontend builds its form from, read off the request model alone."""

from __future__ import annotations

import types
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, NewType, TypeAlias, Union, get_args, get_origin

import annotated_types as at
from pydantic import BaseModel, JsonValue, TypeAdapter
from pydantic.fields import FieldInfo

from providers.described import DescribedEnum

Number: TypeAlias = int | float

_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


class ParameterType(DescribedEnum):
    """What kind of value a parameter takes, and so what a form shows for it."""

    STRING = "string", "Text."
    INTEGER = "integer", "A whole number."
    NUMBER = "number", "A number, possibly with a fraction."
    BOOLEAN = "boolean", "Yes or no."
    ENUM = "enum", "One of the options."
    OBJECT = "object", "A JSON object with keys of your own."


@dataclass(frozen=True, slots=True)
class ParameterOption:
    """One value of a closed list: `name` as GraphQL writes it, `value` as the vendor does."""

    name: str
    value: str
    description: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. Bounds are inclusive; None means that there is none."""

    name: str
    """As in the request model, in snake_case."""
    type: ParameterType
    many: bool
    """Whether it is a list; `type`, the options and the lengths then are those of one item."""
    required: bool
    default: JsonValue
    """What is used when it is left out; None means that the vendor decides."""
    minimum: Number | None
    maximum: Number | None
    step: Number | None
    """The distance between two valid numbers: 1 for whole numbers."""
    min_length: int | None
    """Characters, or items of an object."""
    max_length: int | None
    options: tuple[ParameterOption, ...]
    """Every valid value, of a closed list."""
    suggestions: tuple[str, ...]
    """Known values of an open list; others may be valid as well."""
    description: str


def parameters_of(request: type[BaseModel]) -> tuple[Parameter, ...]:
    """The parameters of `request`, in the order of its fields.

    Raises TypeError for a field no form can show, such as a nested model: flatten it in the request model.
    """
    return tuple(_parameter(f"{request.__name__}.{name}", name, field) for name, field in request.model_fields.items())


def _parameter(where: str, name: str, field: FieldInfo) -> Parameter:
    item, constraints, many = _unwrap(field.annotation, list(field.metadata))
    type_ = _type_of(where, item)
    minimum, maximum, step = _bounds(constraints, whole=type_ is ParameterType.INTEGER)
    default = None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
    return Parameter(
        name=name,
        type=type_,
        many=many,
        required=field.is_required(),
        default=_JSON.dump_python(default, mode="json"),
        minimum=minimum,
        maximum=maximum,
        step=step,
        min_length=next((c.min_length for c in constraints if isinstance(c, at.MinLen)), None),
        max_length=next((c.max_length for c in constraints if isinstance(c, at.MaxLen)), None),
        options=_options(item),
        suggestions=tuple(str(example) for example in field.examples or ()),
        description=" ".join((field.description or "").split()),
    )


def _unwrap(annotation: object, constraints: list[object]) -> tuple[object, list[object], bool]:
    """The type of one value, the constraints on it, and whether the parameter is a list of them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _unwrap(arguments[0], [*constraints, *arguments[1:]])
    if origin in (Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        if len(rest) == 1:
            return _unwrap(rest[0], constraints)
    if isinstance(annotation, NewType):
        return _unwrap(annotation.__supertype__, constraints)
    if origin in (list, tuple):
        item, of_item, _ = _unwrap(arguments[0], [])
        return item, of_item, True
    return annotation, constraints, False


def _type_of(where: str, item: object) -> ParameterType:
    if get_origin(item) is dict:
        return ParameterType.OBJECT
    if isinstance(item, type):
        for python_type, type_ in _TYPES:  # in this order: an enum is a str, a bool is an int
            if issubclass(item, python_type):
                return type_
    raise TypeError(
        f"{where}: a form cannot show the type {item!r}; use text, a number, a bool, an enum or a list of one"
    )


_TYPES: tuple[tuple[type, ParameterType], ...] = (
    (Enum, ParameterType.ENUM),
    (bool, ParameterType.BOOLEAN),
    (int, ParameterType.INTEGER),
    (float, ParameterType.NUMBER),
    (str, ParameterType.STRING),
    (dict, ParameterType.OBJECT),
)


def _options(item: object) -> tuple[ParameterOption, ...]:
    if not (isinstance(item, type) and issubclass(item, Enum)):
        return ()
    return tuple(
        ParameterOption(member.name, str(member.value), member.description if isinstance(member, DescribedEnum) else "")
        for member in item
    )


def _bounds(constraints: list[object], *, whole: bool) -> tuple[Number | None, Number | None, Number | None]:
    minimum: Number | None = None
    maximum: Number | None = None
    step: Number | None = 1 if whole else None
    for constraint in constraints:
        match constraint:
            case at.Ge(ge=int() | float() as bound):
                minimum = bound
            case at.Gt(gt=int() | float() as bound):
                minimum = bound + 1 if whole else bound
            case at.Le(le=int() | float() as bound):
                maximum = bound
            case at.Lt(lt=int() | float() as bound):
                maximum = bound - 1 if whole else bound
            case at.MultipleOf(multiple_of=int() | float() as distance):
                step = distance
            case _:
                pass
    return minimum, maximum, step
