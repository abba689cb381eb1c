"""`make bench`: how much time Darkroom adds to a frame and to a mutation, beside the same thing without it.

Three processes: the client (this one), a Darkroom as anybody runs it (SQLite, a folder), and an upstream of our own.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.markup import escape

from bench.checks import WrongError
from bench.figures import Section, Throughput
from bench.machine import OtherWork, machine
from bench.measurements import frames, lanes, mutations, throughput, warm_up
from bench.pictures import make
from bench.plan import PLAN, Plan
from bench.report import WIDTH, show
from bench.upstream import upstream
from tests.process import Process, serve

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run."""

    sections: list[Section]
    throughput: Throughput
    about: list[str]


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
        say("starting Darkroom and the upstream")
        # One core for Darkroom; client and upstream share another, as where the figures of other gateways come from.
        with pinned(0 if pin else None):
            # The upstream's address is needed first, but it may come up on another core.
            with pinned(1 if pin else None):
                address = stack.enter_context(upstream(pictures, plan.kinds))
            settings = {
                "DARKROOM_OPENAI_IMAGES_BASE_URL": f"{address}/v1",
                "DARKROOM_OPENAI_IMAGES_TOKEN": "bench",
                "DARKROOM_NETWORK": "loopback",
            }
            server = stack.enter_context(serve(folder / "home", **settings))
        with pinned(1 if pin else None):
            try:
                sections, throughput = asyncio.run(_measure(plan, server, address, say))
            except (WrongError, TimeoutError, httpx.HTTPError):
                say("the last lines of Darkroom's log:\n" + "".join(server.log[-20:]))
                raise
    return Results(sections, throughput, [*about, others.sentence()])


async def _measure(plan: Plan, server: Process, address: str, say: Say) -> tuple[list[Section], Throughput]:
    number = max([plan.throughput_clients, *(workload.streams for workload in plan.workloads)])
    async with lanes(server, address, number) as clients:
        say("warming up")
        await warm_up(clients, plan)
        sections = []
        for workload in plan.workloads:
            say(f"frames: {workload.title}")
            sections.append(await frames(workload, clients))
        say("mutations")
        sections.append(await mutations(plan.mutations, clients))
        say("throughput")
        return sections, await throughput(clients, plan.throughput_clients, plan.throughput_seconds)


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run on the n-th core this process may use; what is started meanwhile stays there. None changes nothing."""
    if core is None:
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def main(
    scale: Annotated[float, typer.Option(help="Measure so many times as long.", min=0.01)] = 1.0,
    pin: Annotated[
        bool, typer.Option("--pin", help="Give Darkroom one core, client and upstream another (Linux, two cores).")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Keep the data in this folder while measuring.")] = None,
) -> None:
    """Measure the time that Darkroom adds. Takes a minute and a half; settings from outside are not used."""
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
    show(console, results.sections, results.throughput, results.about, time.monotonic() - began)


if __name__ == "__main__":
    typer.run(main)
