"""Pictures that do not compress, and so have about the size that is asked for."""

from __future__ import annotations

import io
import os

from PIL import Image

_WIDTH = 256


def noise(size: int) -> bytes:
    """A PNG file of about so many bytes, different every time."""
    height = max(size // (3 * _WIDTH), 1)
    file = io.BytesIO()
    Image.frombytes("RGB", (_WIDTH, height), os.urandom(3 * _WIDTH * height)).save(file, "PNG", compress_level=0)
    return file.getvalue()
