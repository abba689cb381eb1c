"""What the simulated vendor counts, by the formulas in contract openai-images §3.3."""

from __future__ import annotations

import math

from pydantic import JsonValue

from providers.openai_images.simulator_validation import Order

_PER_PARTIAL = 100
_FIXED = {"low": (272, 408, 400), "medium": (1056, 1584, 1568), "high": (4160, 6240, 6208)}
"""Output tokens of the families with fixed sizes: square, portrait, landscape."""
_GPT_IMAGE_2 = {"low": 16, "medium": 48, "high": 96}
_GPT_IMAGE_2_5 = {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96}


def usage(order: Order, *, images: int, partials: int, detailed: bool) -> dict[str, JsonValue]:
    """The usage object for `images` pictures with `partials` partial images between them.

    `detailed` adds what only the JSON answer has. Input tokens are about what a tokenizer would count.
    """
    text = max(1, math.ceil(len(order.prompt.encode()) / 4))
    output = images * image_tokens(order) + partials * _PER_PARTIAL
    counted: dict[str, JsonValue] = {
        "input_tokens": text,
        "output_tokens": output,
        "total_tokens": text + output,
        "input_tokens_details": {"text_tokens": text, "image_tokens": 0},
    }
    if detailed:
        counted["output_tokens_details"] = {"text_tokens": 0, "image_tokens": output}
    return counted


def image_tokens(order: Order) -> int:
    """Output tokens of one finished picture."""
    width, height = order.width, order.height
    if order.family.free_size is None:
        square, portrait, landscape = _FIXED[order.quality]
        return square if width == height else portrait if height > width else landscape
    levels = _GPT_IMAGE_2_5 if "max" in order.family.qualities else _GPT_IMAGE_2
    level = levels[order.quality]
    across = level * round(level * min(width, height) / max(width, height))
    return math.ceil(across * (2_000_000 + width * height) / 4_000_000)
