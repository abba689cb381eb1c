"""Scalars beyond GraphQL's own five."""

from __future__ import annotations

from typing import NewType

import strawberry
from strawberry.types.scalar import ScalarDefinition

BigInt = NewType("BigInt", int)
"""An integer that GraphQL's 32-bit `Int` cannot hold."""

SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number that may need more than 32 bits, as a JSON number.",
        serialize=int,
        parse_value=int,
    )
}
