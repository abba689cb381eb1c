"""Enums whose members carry their own description, for the schema, the catalogue and the docs."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class DescribedEnum(StrEnum):
    """A closed list of strings. Members are written `NAME = "wire value", "what it means"`."""

    description: str

    def __new__(cls, value: str, description: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member
