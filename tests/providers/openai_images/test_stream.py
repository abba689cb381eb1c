"""Server-sent events, cut into any pieces, of any size."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import BadResponseError
from providers.openai_images.stream import LARGE, StreamEvent, stream_events

pytestmark = pytest.mark.anyio

_MIB = 1024 * 1024
_ENDS = (b"\n", b"\r", b"\r\n")


async def read(chunks: Iterable[bytes], limit: int = 96 * _MIB) -> list[StreamEvent]:
    async def served() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [event async for event in stream_events(served(), limit=limit)]


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[StreamEvent]]:
    """A stream with all that may be in one, and the events in it."""
    written = b""
    expected: list[StreamEvent] = []
    for number in range(draw(st.integers(1, 4))):
        end = draw(st.sampled_from(_ENDS))
        name = draw(st.sampled_from(["", "error", "image_generation.completed"]))
        text = draw(st.sampled_from(["", "A" * 40, "ü ✓ \u2028 \x85", "\\n\\r"]))
        lines = [f'data: {{"n":{number},', f'data:"text":"{text}"}}']
        if name:
            lines.insert(draw(st.integers(0, 2)), f"event: {name}")
        if draw(st.booleans()):
            lines.insert(0, ": still here")
        if draw(st.booleans()):
            lines += ["retry: 5", "unknown: field", "id"]
        written += end.join([*(line.encode() for line in lines), b""]) + draw(
            st.sampled_from([end, end + end, b"\r" if end == b"\r" else b"\n"])  # \r and \n together are one line end
        )
        expected.append(StreamEvent(name, {"n": number, "text": text.replace("\\n\\r", "\n\r")}))
    if draw(st.booleans()):
        written += b"data: [DONE]\n\ndata: {}\n\n"
    return written, expected


@given(streams(), st.data())
def test_any_split_of_a_stream_gives_the_same_events(
    stream: tuple[bytes, list[StreamEvent]], data: st.DataObject
) -> None:
    written, expected = stream
    cuts = sorted(data.draw(st.sets(st.integers(0, len(written)), max_size=12)))
    parts = [written[a:b] for a, b in zip([0, *cuts], [*cuts, len(written)], strict=True)]
    assert asyncio.run(read(parts)) == expected
    assert asyncio.run(read(pieces(written, 1))) == expected


@pytest.mark.parametrize("end", _ENDS)
async def test_an_event_is_handed_over_with_its_blank_line_and_not_with_the_next_one(end: bytes) -> None:
    arrived = asyncio.Event()

    async def served() -> AsyncIterator[bytes]:
        yield b'data: {"n":1}' + end + end
        await arrived.wait()  # only the reader of the first event lets the stream go on

    async with asyncio.timeout(5):
        async for event in stream_events(served(), limit=_MIB):
            assert event == StreamEvent("", {"n": 1})
            arrived.set()


async def test_what_stands_before_a_missing_blank_line_is_no_event() -> None:
    assert await read([b'data: {"n":1}\n\ndata: {"n":2}\n']) == [StreamEvent("", {"n": 1})]
    assert await read([b'data: {"n":1}']) == []
    assert await read([]) == []


async def test_comments_and_foreign_data_are_passed_over() -> None:
    noise = [b": ping\n\n", b"data: ping\n\n", b"event: x\n\n", b"data: [1]\n\n", b"\n\n\n", b"id: 7\n\n"]
    assert await read([*noise, b'data: {"n":1}\n\n', *noise]) == [StreamEvent("", {"n": 1})]


async def test_after_done_nothing_is_read() -> None:
    assert await read([b'data: {"n":1}\n\ndata: [DONE]\n\ndata: {"n":2}\n\n']) == [StreamEvent("", {"n": 1})]


async def test_broken_json_is_told_and_ends_nothing() -> None:
    broken, whole = await read([b'event: a\ndata: {"n":\n\n', b'data: {"n":1}\n\n'])
    assert broken.name == "a"
    assert "not valid JSON" in str(broken.broken)
    assert whole == StreamEvent("", {"n": 1})


@pytest.mark.parametrize("size", [1024, 64 * 1024])
async def test_an_event_over_the_limit_is_refused_before_it_is_collected(size: int) -> None:
    event = b'data: {"x":"' + b"A" * _MIB + b'"}\n\n'
    assert len(await read(pieces(event, size), limit=len(event))) == 1
    with pytest.raises(BadResponseError, match="FRAME_LIMIT_BYTES"):
        await read(pieces(event, size), limit=len(event) - 1)


async def test_small_events_do_not_add_up_to_the_limit() -> None:
    event = b'data: {"x":"' + b"A" * 1000 + b'"}\n\n'
    assert len(await read([event * 50] * 50, limit=2000)) == 2500


@pytest.mark.parametrize(("payload", "size"), [(64 * _MIB, 64 * 1024), (64 * _MIB, 1024), (16 * _MIB, 256)])
async def test_a_large_event_in_any_pieces_takes_linear_time(payload: int, size: int) -> None:
    """About a second. Going over what has arrived with every piece would take half an hour for the smallest ones."""
    event = b'event: x\r\ndata: {"x":"' + b"A" * payload + b'"}\r\n\r\n'
    begin = time.process_time()
    (got,) = await read(pieces(event, size))
    assert time.process_time() - begin < 15
    assert got == StreamEvent("x", {"x": "A" * payload})


_PEAK = """
import asyncio, resource
from providers.openai_images.stream import stream_events

MIB = 1024 * 1024

async def served(mib):
    yield b'data: {"x":"'
    for _ in range(mib * 16):
        yield b"A" * (64 * 1024)
    yield b'"}\\n\\n'

async def read(mib):
    (event,) = [event async for event in stream_events(served(mib), limit=96 * MIB)]
    assert len(event.data["x"]) == mib * MIB

asyncio.run(read(1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
asyncio.run(read(64))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


async def test_an_event_of_64_mib_takes_a_bounded_multiple_of_its_size_in_memory() -> None:
    """In a process of its own, because a peak cannot be taken back."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PEAK, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert int(printed) < 64 * 8, f"{int(printed)} MiB for an event of 64"


async def test_others_get_their_turn_while_a_large_event_is_parsed() -> None:
    turns = 0
    parsing = asyncio.Event()

    async def others() -> None:
        nonlocal turns
        await parsing.wait()
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def served() -> AsyncIterator[bytes]:
        for chunk in pieces(b'data: {"x":"' + b"A" * (16 * _MIB) + b'"}\n', 256 * 1024):
            yield chunk
        parsing.set()
        yield b"\n"

    waiting = asyncio.create_task(others())
    assert len([event async for event in stream_events(served(), limit=96 * _MIB)]) == 1
    waiting.cancel()
    assert turns > 1


def test_what_is_large_is_a_millisecond_of_work() -> None:
    assert 64 * 1024 <= LARGE <= _MIB
