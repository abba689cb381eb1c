"""Scalars beyond GraphQL's own five."""

from __future__ import annotations

import strawberry
from strawberry.types.scalar import ScalarDefinition

from providers.scalars import BigInt

__all__ = ["SCALARS", "BigInt"]

SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number that may need more than 32 bits, as a JSON number.",
        serialize=int,
        parse_value=int,
    ),
    dict[str, str]: strawberry.scalar(
        name="StringMap",
        description="A JSON object whose values are all strings.",
        serialize=dict,
        # Whatever comes is handed on: the model it is for says what is wrong with it, and where.
        parse_value=lambda value: value,
    ),
}
