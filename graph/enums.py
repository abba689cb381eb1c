"""The enums of the schema that the rooms below define, with their descriptions.

They are imported from here, never from where they are defined: Strawberry would otherwise make a second type of one
that it meets before it has been described.
"""

from __future__ import annotations

from typing import TypeVar

import strawberry

from providers.contract import CancelOutcome, ProgressOrigin
from providers.described import DescribedEnum
from providers.errors import FailureCode, Transport
from providers.parameters import ParameterType
from tasks.circuit import CircuitStatus
from tasks.records import ImageKind
from tasks.status import TaskStatus

__all__ = [
    "CancelOutcome",
    "CircuitStatus",
    "FailureCode",
    "ImageKind",
    "ParameterType",
    "ProgressOrigin",
    "TaskStatus",
    "Transport",
    "enum",
]

E = TypeVar("E", bound=DescribedEnum)


def enum(cls: type[E]) -> type[E]:
    """Make a described enum part of the schema, once; its members keep their descriptions."""
    strawberry.enum(cls, description=(cls.__doc__ or "").strip().splitlines()[0])
    definition = cls.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = cls[value.name].description
    return cls


for _described in (
    TaskStatus,
    FailureCode,
    Transport,
    ImageKind,
    ProgressOrigin,
    ParameterType,
    CancelOutcome,
    CircuitStatus,
):
    enum(_described)
