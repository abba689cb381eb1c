"""The table, and the sentences around it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.figures import Comparison, Section, Throughput, percentile

WIDTH = 120
_HEADERS = ("direct\np50", "\np99", "Darkroom\np50", "\np99", "added\np50", "\np99", "ratio\np50", "target\np50", "\nn")

_EXPLANATION = """\
A frame's time runs from right before the upstream writes it until its text is in the client's hands. Direct: the text
is the frame with the picture in base64 (httpx, httpx-sse), still to be parsed and decoded. Darkroom: it is the event of
a graphql-transport-ws subscription that selects sequence, kind, index and image { kind url width height }, as a
frontend would (in one row also placeholder); the picture has been decoded, checked, stored and recorded by then.
Every frame is another picture. The rate is that of all streams together, and the gaps vary by half. Direct and
Darkroom take turns, round by round.
A mutation's time runs from right before the client sends it (direct: the POST) until the upstream has the headers.
"added" is the difference of two percentiles, "ratio" their quotient; where n is below 100, p99 is the largest."""


def show(
    console: Console, sections: Sequence[Section], throughput: Throughput, about: Sequence[str], seconds: float
) -> None:
    """Print a whole run."""
    console.print(table(sections, throughput))
    console.print(Text(_EXPLANATION, style="dim"))
    console.print(Text("\n".join(about), style="dim"))
    console.print(Text(f"Measured in {seconds:.0f} seconds.", style="dim"))


def table(sections: Sequence[Section], throughput: Throughput) -> Table:
    """The figures."""
    made = Table(title="Time that Darkroom adds, in milliseconds", header_style="bold", title_style="bold", width=WIDTH)
    made.add_column("\nwhat", ratio=1, no_wrap=True)
    for header in _HEADERS:
        made.add_column(header, justify="right", no_wrap=True)
    for section in sections:
        made.add_row(Text(section.title, style="bold"))
        for row in section.rows:
            made.add_row(f"  {row.what}", *_cells(row))
        made.add_section()
    made.add_row(Text(f"Whole tasks, small PNG, {throughput.clients} clients", style="bold"))
    made.add_row("  mutation to TaskSucceeded", *_cells(Comparison("", throughput.direct, throughput.tasks)))
    made.add_row("  per second", f"{throughput.direct_per_second:.0f}", "", f"[bold]{throughput.per_second:.0f}[/]", "")
    return made


def _cells(row: Comparison) -> list[str | Text]:
    direct = [_short(percentile(row.direct, percent)) for percent in (50, 99)]
    darkroom = [_short(percentile(row.darkroom, percent)) for percent in (50, 99)]
    added = Text(_short(row.added(50)), style={True: "bold green", False: "bold red", None: "bold"}[row.met])
    target = "" if row.target is None else f"<{row.target:g} {'✓' if row.met else '✗'}"
    return [*direct, *darkroom, added, _short(row.added(99)), f"{row.ratio:.1f}×", target, str(len(row.darkroom))]


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if abs(milliseconds) < 100 else f"{milliseconds:.0f}"
