"""Who said something: whose words may be shown, and what must never be among them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who said it: the host for messages, and the token that must never be part of one."""

    host: str
    secret: str | None = field(default=None, repr=False)

    def clean(self, text: str, limit: int = 1000) -> str:
        """`text` on one line, without the token, and cut to `limit` characters."""
        if self.secret:
            text = text.replace(self.secret, "[token]")
        text = " ".join(text.split())
        return text if len(text) <= limit else text[: limit - 1] + "…"
