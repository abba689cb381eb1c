"""The table, and the sentences around it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.figures import Capacity, Comparison, Results, Section, Throughput, percentile

WIDTH = 120
_HEADERS = ("direct\np50", "\np99", "Darkroom\np50", "\np99", "added\np50", "\np99", "ratio\np50", "target\np50", "\nn")
_TASK_HEADERS = (
    "direct\nper s", "Darkroom\nper s", "\nratio", "\ntarget", "\np50 ms", "\np99 ms",
    "node\nCPU ms", "database\nCPU ms", "\nn",
)  # fmt: skip
_STYLES = {True: "bold green", False: "bold red", None: "bold"}

_EXPLANATION = """\
A frame's time runs from right before the upstream writes it until its text is in the client's hands. Direct: the text
is the frame with the picture in base64 (httpx, httpx-sse), still to be parsed and decoded. Darkroom: it is the event of
a graphql-transport-ws subscription that selects sequence, kind, index and image { kind url width height }, as a
frontend would (in one row also placeholder); the picture has been decoded, checked, stored and recorded by then.
Every frame is another picture. The rate is that of all streams together, and the gaps vary by half. Direct and
Darkroom take turns, round by round.
A mutation's time runs from right before the client sends it (direct: the POST) until the upstream has the headers.
"added" is the difference of two percentiles, "ratio" their quotient; where n is below 100, p99 is the largest."""

_WHOLE_TASKS = """\
Each client starts a task over HTTP, watches it over its websocket until TaskSucceeded, checks all its events, and then
starts the next one. Direct: the same clients POST to the upstream itself, which answers at once. The upstream was asked
for exactly as many pictures as there were tasks. Nodes, database, upstream and clients share all the cores. CPU is
processor time per task: of all nodes together, and of PostgreSQL, which waits for the disk at every commit (as SQLite
does). A node is idle when its clients have gone, with the tasks they started in its history."""


def show(console: Console, results: Results, seconds: float) -> None:
    """Print a whole run."""
    console.print(added(results.sections))
    console.print(Text(_EXPLANATION, style="dim"))
    console.print(carried(results.capacities))
    console.print(left_alone(results.capacities))
    console.print(Text(_WHOLE_TASKS, style="dim"))
    console.print(Text("\n".join(results.about), style="dim"))
    console.print(Text(f"Measured in {seconds:.0f} seconds.", style="dim"))


def added(sections: Sequence[Section]) -> Table:
    """The time that is added to a frame and to a mutation."""
    made = _table("Time that Darkroom adds, in milliseconds", _HEADERS)
    for section in sections:
        made.add_row(Text(section.title, style="bold"))
        for row in section.rows:
            made.add_row(f"  {row.what}", *_cells(row))
        made.add_section()
    return made


def carried(capacities: Sequence[Capacity]) -> Table:
    """Whole tasks per second."""
    made = _table("Whole tasks, from the mutation to TaskSucceeded, small PNG", _TASK_HEADERS)
    for capacity in capacities:
        made.add_row(Text(capacity.title, style="bold"))
        for row in capacity.throughputs:
            made.add_row(f"  {row.clients} {'client' if row.clients == 1 else 'clients'}", *_task_cells(row))
        made.add_section()
    return made


def left_alone(capacities: Sequence[Capacity]) -> Table:
    """What an idle node costs."""
    made = _table("A node with nothing to do, in percent of one core", ("processor", "target", "seconds"))
    for idle in (each for capacity in capacities for each in capacity.idle):
        percent = "unknown" if idle.percent is None else f"{idle.percent:.1f} %"
        made.add_row(
            idle.what,
            Text(percent, style=_STYLES[idle.met]),
            _target("<", idle.target, idle.met),
            f"{idle.seconds:.0f}",
        )
    return made


def _table(title: str, headers: Sequence[str]) -> Table:
    made = Table(title=title, header_style="bold", title_style="bold", width=WIDTH)
    made.add_column("\nwhat" if any("\n" in header for header in headers) else "what", ratio=1, no_wrap=True)
    for header in headers:
        made.add_column(header, justify="right", no_wrap=True)
    return made


def _task_cells(row: Throughput) -> list[str | Text]:
    return [
        f"{row.direct_per_second:.0f}",
        Text(f"{row.per_second:.0f}", style=_STYLES[row.met]),
        f"{row.ratio:.1f}×",
        _target("≥", row.target, row.met),
        *(_short(percentile(row.tasks, percent)) for percent in (50, 99)),
        *(_per_task(used, row) for used in (row.node_seconds, row.database_seconds)),
        str(len(row.tasks)),
    ]


def _per_task(seconds: float | None, row: Throughput) -> str:
    return "" if seconds is None else f"{seconds / len(row.tasks) * 1e3:.1f}"


def _cells(row: Comparison) -> list[str | Text]:
    direct = [_short(percentile(row.direct, percent)) for percent in (50, 99)]
    darkroom = [_short(percentile(row.darkroom, percent)) for percent in (50, 99)]
    median = Text(_short(row.added(50)), style=_STYLES[row.met])
    target = _target("<", row.target, row.met)
    return [*direct, *darkroom, median, _short(row.added(99)), f"{row.ratio:.1f}×", target, str(len(row.darkroom))]


def _target(sign: str, target: float | None, met: bool | None) -> str:
    return "" if target is None else f"{sign}{target:g} {'?' if met is None else '✓' if met else '✗'}"


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if abs(milliseconds) < 100 else f"{milliseconds:.0f}"
