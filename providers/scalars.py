"""Number types that requests need and JSON has, but GraphQL does not; the schema maps them to scalars of its own."""

from __future__ import annotations

from typing import NewType

BigInt = NewType("BigInt", int)
"""A whole number that may need more than 32 bits."""
