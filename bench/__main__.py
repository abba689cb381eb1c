"""`make bench`: how much time Darkroom adds, how many tasks it carries, and what it costs when it has nothing to do.

All on real processes and real sockets, and beside the same thing without Darkroom.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.markup import escape

from bench.added_time import Say, added_time, pinned
from bench.checks import WrongError
from bench.figures import Results
from bench.machine import OtherWork, machine
from bench.pictures import make
from bench.plan import PLAN, Plan
from bench.report import WIDTH, show
from bench.upstream import upstream
from bench.whole_tasks import capacity


def measure(plan: Plan, parent: Path | None, *, pin: bool, say: Say) -> Results:
    """Start everything, measure, stop everything; nothing stays on the disk.

    `parent` is where the data is kept meanwhile, up to a gigabyte. Raises `WrongError` for a wrong answer, and whatever
    httpx and websockets raise for none.
    """
    others = OtherWork()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="darkroom-bench-", dir=parent)))
        about = machine(folder, pinned=pin)
        say("drawing the pictures")
        pictures = folder / "pictures"
        pictures.mkdir()
        make(pictures, plan.kinds)
        with pinned(1 if pin else None):
            address = stack.enter_context(upstream(pictures, plan.kinds))
        sections = added_time(plan, folder / "added-time", address, say, pin=pin)
        address = stack.enter_context(upstream(pictures, plan.kinds))
        capacities = [
            capacity(setup, plan, folder / f"capacity-{number}", address, say)
            for number, setup in enumerate(plan.setups)
        ]
    return Results(sections, capacities, [*about, others.sentence()])


def main(
    scale: Annotated[float, typer.Option(help="Measure so many times as long.", min=0.01)] = 1.0,
    pin: Annotated[
        bool,
        typer.Option(
            "--pin", help="For the added time: Darkroom on one core, client and upstream on another (Linux, two cores)."
        ),
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Keep the data in this folder while measuring.")] = None,
) -> None:
    """Measure what Darkroom adds, carries and costs. Takes four minutes; settings from outside are not used."""
    for name in [name for name in os.environ if name.startswith("DARKROOM_")]:
        del os.environ[name]
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    began = time.monotonic()
    status = Console(stderr=True)

    def say(text: str) -> None:
        status.print(f"{time.monotonic() - began:5.1f} s  {escape(text)}", style="dim", highlight=False)

    try:
        results = measure(PLAN.scaled(scale), data, pin=pin, say=say)
    except WrongError as exc:
        status.print(f"[bold red]Stopped, because a figure for a wrong answer means nothing.[/]\n{escape(str(exc))}")
        raise typer.Exit(1) from exc
    except (TimeoutError, httpx.HTTPError) as exc:
        status.print(f"[bold red]Stopped: no answer came.[/]\n{escape(repr(exc))}")
        raise typer.Exit(1) from exc
    show(console, results, time.monotonic() - began)


if __name__ == "__main__":
    typer.run(main)
