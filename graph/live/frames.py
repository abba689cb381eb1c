"""Websocket frames, written by hand: a prefix that differs from socket to socket, and bytes that all of them share.

A server's frames are not masked, so the shared bytes are the same everywhere (RFC 6455, section 5).
"""

from __future__ import annotations

from collections.abc import Iterator

PIECE = 128 * 1024
"""Most bytes of a message that are written at once. A longer message is sent in fragments, so that what waits to be
sent to a slow reader stays small, and so that a ping or a close need not wait for the end of a picture."""

TEXT, CONTINUATION = 0x1, 0x0
_FINAL = 0x80


def header(length: int, opcode: int = TEXT, *, final: bool = True) -> bytes:
    """The header of a frame with this many bytes of payload."""
    first = opcode | _FINAL if final else opcode
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")


def frame(text: bytes) -> bytes:
    """A whole text message."""
    return header(len(text)) + text


def fragments(prefix: bytes, body: bytes, end: bytes) -> Iterator[bytes]:
    """A long text message in pieces, each a frame of its own."""
    view = memoryview(body)
    opcode, before, at = TEXT, prefix, 0
    while True:
        piece = view[at : at + max(PIECE - len(before) - len(end), 1)]
        at += len(piece)
        final = at >= len(view)
        after = end if final else b""
        yield header(len(before) + len(piece) + len(after), opcode, final=final) + before + piece + after
        if final:
            return
        opcode, before = CONTINUATION, b""
