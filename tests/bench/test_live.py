"""The measurement of live delivery with tiny numbers, and that it sees what is wrong. No figure is judged here."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench.checks import WrongError
from bench.live.contenders import put_under, running
from bench.live.received import Expecting, Received
from bench.live.report import show, verdicts
from bench.live.workloads import FAN, HOT, LONG, OPEN, PICTURE, WORKLOADS, Contender, Load, Outcome
from graph.live.frames import frame

TINY = Load("tiny", "status", watchers=2, tasks=1)


def message(watcher: int, sequence: int, **more: object) -> bytes:
    event = {"sequence": sequence, "task": {"name": "1"}, **more}
    text = f'{{"id":"w{watcher}","type":"next","payload":{json.dumps({"data": {"taskEvents": event}})}}}'
    return frame(text.encode())


def test_messages_are_counted_when_everybody_has_them_however_they_are_cut() -> None:
    received = Received(TINY)
    watchers = [Expecting(number, 0) for number in range(2)]
    for number, watcher in enumerate(watchers):
        for byte in message(number, 2) + message(number, 3):
            received.take(watcher, bytes((byte,)))
        assert received.rounds == number * 2

    assert received.messages == 4
    assert not received.incomplete


@pytest.mark.parametrize(
    "wrong",
    [
        [message(0, 3)],
        [message(0, 2), message(0, 2)],
        [message(0, 2), message(0, 4)],
        [message(1, 2)],
        [frame(b'{"id":"w0","type":"next","payload":{"data":null,"errors":[]}}')],
        [frame(b'{"id":"w0","type":"complete"}')],
        [b"\x88\x00"],
    ],
    ids=["missing", "twice", "a gap", "another operation", "errors", "the end", "a close"],
)
def test_what_should_not_have_come_is_seen(wrong: list[bytes]) -> None:
    received = Received(TINY)
    with pytest.raises(WrongError):
        received.take(Expecting(0, 0), b"".join(wrong))


def test_another_watcher_must_get_the_same_event() -> None:
    received = Received(TINY)
    received.take(Expecting(0, 0), message(0, 2))
    with pytest.raises(WrongError):
        received.take(Expecting(1, 0), message(1, 3))


@pytest.mark.parametrize("contender", [Contender.DARKROOM, Contender.STOCK])
def test_a_server_is_measured(tmp_path: Path, contender: Contender) -> None:
    load = replace(FAN, watchers=6, tasks=3, seconds=0.1, paced=10, paced_seconds=0.2, steps=3)
    with running(contender, tmp_path, 3, None) as server:
        outcome = put_under(load, server)

    assert outcome.deliveries % 6 == 0
    assert outcome.deliveries
    assert outcome.p99 is not None
    assert 200 < outcome.message_bytes < 300


def test_pictures_are_measured(tmp_path: Path) -> None:
    load = replace(PICTURE, watchers=2, seconds=0.1, paced=0)
    with running(Contender.DARKROOM, tmp_path, 1, None) as server:
        assert put_under(load, server).message_bytes > 99_000


def test_a_target_that_is_missed_is_called_missed() -> None:
    outcome = Outcome(10_000, 1, 1, 1, 240, 0.001, 0.002, 1000, 0, 0.1)
    slow = replace(outcome, server_cpu=2, memory_grown=10 << 20)
    found = {
        one: dict.fromkeys(one.contenders, outcome) | {Contender.DARKROOM: slow}
        for one in WORKLOADS
        if one.load in (HOT, LONG, OPEN)
    }
    del found[WORKLOADS[0]][Contender.NODE]
    console = Console(file=io.StringIO(), width=160)
    show(console, found, ["about"], 1)
    text = console.file.getvalue()  # type: ignore[attr-defined]

    assert [verdict.met for verdict in verdicts(found)] == [False, None, False, True, False]
    assert "MISSED" in text
    assert "0.5× strawberry.asgi" in text
    assert "was not measured" in text
