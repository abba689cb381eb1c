"""The table of `make bench-live`, and which targets are met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.live.workloads import LONG, NO_GROWTH, OPEN, Contender, Outcome, Target, Workload

_HEADERS = (
    "CPU s per\n10,000", "×\nDarkroom", "p50 ms\n", "p99 ms\n", "deliveries\nper s", "KB per\nsubscription",
    "connect\nCPU ms", "bytes\n", "client\nbusy",
)  # fmt: skip
_EXPLANATION = """\
CPU: processor seconds of the server per 10,000 deliveries, with two events under way at a time. p50 and p99: from the
publishing of an event to its receipt, at a pace that leaves every server time; with a thousand watchers that includes
reading a thousand sockets. KB per subscription: how much the server grew while everybody connected, divided; its own
kernel buffers are not in it. Every message was checked: that it is the next one, whole, for the right operation. The
client takes every message apart, so where it is busy all the time, deliveries per second are its limit and not the
server's; the CPU of the server is not affected. All servers publish from memory: nothing is written to a database."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target, and whether it is met; None when it cannot be known."""

    text: str
    met: bool | None


Outcomes = Mapping[Workload, Mapping[Contender, Outcome]]


def show(console: Console, outcomes: Outcomes, about: list[str], seconds: float) -> None:
    """Print everything."""
    console.print(table(outcomes))
    console.print(Text(_EXPLANATION, style="dim"))
    for verdict in verdicts(outcomes):
        word, style = {True: ("met   ", "bold green"), False: ("MISSED", "bold red"), None: ("?     ", "bold")}[
            verdict.met
        ]
        console.print(Text.assemble((word, style), "  ", verdict.text))
    console.print(Text("\n".join(about), style="dim"))
    console.print(Text(f"Measured in {seconds:.0f} seconds.", style="dim"))


def table(outcomes: Outcomes) -> Table:
    """All figures."""
    made = Table(title="Live delivery, in one run", title_justify="left", expand=True)
    made.add_column("")
    for header in _HEADERS:
        made.add_column(header, justify="right")
    for workload, found in outcomes.items():
        made.add_row(Text(workload.load.name, style="bold"))
        for contender, outcome in found.items():
            made.add_row(f"  {contender.value}", *_cells(outcome, found[Contender.DARKROOM], workload))
        made.add_section()
    return made


def _cells(outcome: Outcome, darkroom: Outcome, workload: Workload) -> Iterator[str]:
    yield f"{outcome.cpu:.3f}"
    yield f"{outcome.cpu / darkroom.cpu:.1f}"
    for latency in (outcome.p50, outcome.p99):
        yield "" if latency is None else f"{latency * 1e3:.1f}"
    yield f"{outcome.deliveries / outcome.seconds:,.0f}"
    yield f"{memory(outcome, workload) / 1024:.1f}"
    yield f"{outcome.connect_cpu / workload.load.watchers * 1e3:.2f}"
    yield f"{outcome.message_bytes:,}"
    yield f"{outcome.busy_client:.0%}"


def memory(outcome: Outcome, workload: Workload) -> float:
    """Bytes per idle subscription."""
    return outcome.memory_connected / workload.load.watchers


def verdicts(outcomes: Outcomes) -> Iterator[Verdict]:
    """Every target there is."""
    for workload, found in outcomes.items():
        for target in workload.targets:
            yield _verdict(workload, target, found)
        if workload.load is LONG:
            grown = found[Contender.DARKROOM].memory_grown
            yield Verdict(f"{LONG.name}: grew by {grown / 1024:,.0f} KB; none is the target", grown < NO_GROWTH)
        if workload.load is OPEN:
            # A message out of order or missing, or a closed socket, would have ended the run.
            yield Verdict(f"{OPEN.name}: every event in order, no error", True)


def _verdict(workload: Workload, target: Target, found: Mapping[Contender, Outcome]) -> Verdict:
    what = "CPU" if target.figure == "cpu" else "memory per idle subscription"
    other = found.get(target.beside)
    if other is None:
        return Verdict(f"{workload.load.name}: {what} beside {target.beside.value} was not measured", None)
    ours = found[Contender.DARKROOM]
    if target.at_least is not None:
        ratio = other.cpu / ours.cpu
        text = f"{ratio:.1f}× {target.beside.value} in {what}; at least {target.at_least:g}× is the target"
        return Verdict(f"{workload.load.name}: {text}", ratio >= target.at_least)
    assert target.at_most is not None
    ratio = memory(ours, workload) / memory(other, workload)
    text = f"{ratio:.2f} of {target.beside.value}'s {what}; at most {target.at_most:g} is the target"
    return Verdict(f"{workload.load.name}: {text}", ratio <= target.at_most)
