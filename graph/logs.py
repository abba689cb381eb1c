"""Log lines: for a person or for a collector, and never with picture data or a secret in them."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import orjson

from graph.settings import LogFormat

LONGEST = 4_000
"""Most characters of one message or traceback. A line that long holds data that does not belong in a log."""


class TextLines(logging.Formatter):
    """One line for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, where from, what."""
        return shorten(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The same, for a collector."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": shorten(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = shorten(self.formatException(record.exc_info))
        return orjson.dumps(line).decode()


def shorten(text: str) -> str:
    """The text, without the middle of it where it is too long."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]} … {len(text) - LONGEST:,} characters left out … {text[-LONGEST // 2 :]}"


def configure(format: LogFormat) -> None:
    """Send all logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    plain = TextLines("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonLines() if format is LogFormat.JSON else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "alembic", "uvicorn", "strawberry"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # `graph.http` says the same of a refused websocket, with the name of the setting.
    logging.getLogger("strawberry.ws").setLevel(logging.ERROR)
