"""Writes into the README what the code knows better: the table of settings."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from graph.settings_report import markdown

_SETTINGS = re.compile(r"(<!-- settings: make docs -->\n).*?(<!-- /settings -->)", re.DOTALL)


def readme(text: str) -> str:
    """The README with its table of settings as the code has them."""
    return _SETTINGS.sub(lambda found: f"{found[1]}{markdown()}\n{found[2]}", text)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(readme(path.read_text()))
