"""Settings that nothing reads, because their names are misspelt."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values

from graph.settings_report import SETTINGS, variables

PREFIX = "DARKROOM_"
LIKE = 0.6
"""How much of a name must agree with the one that was perhaps meant; 1 is all of it."""


def unknown(env_file: Path = Path(".env")) -> list[str]:
    """What is set and read by nobody, with the name that was perhaps meant. A limit that is misspelt is no limit."""
    known = {variable.removeprefix(PREFIX): variable for cls in SETTINGS for _, variable, _ in variables(cls)}
    found = []
    for name, source in _given(env_file):
        short = name.upper().removeprefix(PREFIX)
        if short in known:
            continue
        near = difflib.get_close_matches(short, known, n=1, cutoff=LIKE)
        meant = f"did you mean {known[near[0]]}?" if near else "`darkroom settings` prints all there are"
        found.append(f"{name} ({source}) is no setting, and has no effect; {meant}")
    return found


def _given(env_file: Path) -> Iterator[tuple[str, str]]:
    """What is set for Darkroom, and where."""
    in_file = dotenv_values(env_file) if env_file.exists() else {}
    for names, source in ((os.environ, "environment"), (in_file, str(env_file))):
        yield from ((name, source) for name, value in names.items() if value and name.upper().startswith(PREFIX))
