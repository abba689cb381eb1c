"""Finding a value in somebody else's JSON by a path from the settings: JSON pointers, RFC 6901."""

from __future__ import annotations

import re

from pydantic import JsonValue

_BROKEN_ESCAPE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


def check_pointer(pointer: str) -> str:
    """`pointer` itself. Raises ValueError for what is no JSON pointer."""
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"write a JSON pointer, which begins with a slash: /{pointer.replace('.', '/')}")
    if _BROKEN_ESCAPE.search(pointer):
        raise ValueError("in a JSON pointer a tilde is written ~0, and a slash inside a name ~1")
    return pointer


def value_at(document: JsonValue, pointer: str) -> JsonValue:
    """The value `pointer` leads to, or None where it leads nowhere; `""` is the whole document."""
    value = document
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and _INDEX.fullmatch(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value
