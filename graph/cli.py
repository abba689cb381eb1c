"""The command `darkroom`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from starlette.applications import Starlette
from starlette.routing import Mount

from graph import logs
from graph.app import create_app
from graph.doctor.examination import examine
from graph.doctor.finding import Finding, NoSiteError, Site, line
from graph.schema import print_schema
from graph.server import AddressError, Server, configure, listen, work
from graph.settings import ServerSettings
from graph.settings_report import explain, markdown, report
from graph.settings_unknown import unknown
from graph.welcome import ending, welcome
from providers.registry import PROVIDERS
from providers.sandbox.app import sandbox
from providers.sandbox.ledger import Ledger
from tasks.darkroom import Darkroom
from tasks.database import Database
from tasks.engine import migrate_engine
from tasks.errors import TaskError
from tasks.settings import TaskSettings

cli = typer.Typer(
    help="Darkroom: a self-hosted GraphQL server for image generation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
console = Console(stderr=True)
log = logging.getLogger(__name__)
UNFOLDED = 100_000
"""Columns that are enough for any setting."""


Host = Annotated[str | None, typer.Option(help="Address to listen on [DARKROOM_HOST].")]
Port = Annotated[int | None, typer.Option(help="Port to listen on [DARKROOM_PORT].", min=0, max=65535)]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"darkroom {version('darkroom')}")
        raise typer.Exit


@cli.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and stop.")
    ] = False,
) -> None:
    pass


@cli.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Serve the API and run the tasks."""
    _serve(host, port, works=True)


@cli.command()
def api(host: Host = None, port: Port = None) -> None:
    """Serve the API only; tasks are run by `darkroom worker` on the same PostgreSQL database."""
    _needs_postgresql("api")
    _serve(host, port, works=False)


@cli.command()
def worker() -> None:
    """Run the tasks only; clients are served by `darkroom api` on the same PostgreSQL database."""
    _needs_postgresql("worker")
    server, tasks = ServerSettings(), TaskSettings()
    _begin_log(server)
    darkroom = Darkroom(
        tasks,
        PROVIDERS,
        sandbox_url=server.sandbox_url or f"{server.base_url()}/sandbox",
        public_url=server.public_url,
        base_url=server.base_url(),
    )

    def ready() -> None:
        words = f"Working as [bold]{darkroom.node}[/]. Ctrl-C stops the worker. {ending(darkroom)}"
        console.print(words, highlight=False, soft_wrap=True)

    _run(work(darkroom, on_ready=ready), darkroom)


def _needs_postgresql(command: str) -> None:
    if not TaskSettings().database.startswith("postgresql"):
        raise typer.BadParameter(
            f"`darkroom {command}` shares its work with other processes, and that needs PostgreSQL: set "
            "DARKROOM_DATABASE_URL to postgresql://…, or use `darkroom serve`."
        )


def _begin_log(server: ServerSettings) -> None:
    """Write the log as it is set, and first what is set in vain."""
    logs.configure(server.log_format)
    for words in unknown():
        log.warning("%s", words)


def _serve(host: str | None, port: int | None, *, works: bool) -> None:
    server = ServerSettings().model_copy(
        update={name: value for name, value in (("host", host), ("port", port)) if value is not None}
    )
    tasks = TaskSettings()
    _begin_log(server)
    # Listening before the start: tasks that the last process left behind begin at once, and may use our own sandbox.
    listener = listen(server.host, server.port)
    base_url = server.base_url(listener.getsockname()[1])
    app = create_app(server, tasks, base_url=base_url, works=works)
    darkroom: Darkroom = app.state.darkroom
    darkroom.lock()
    # Before the server starts, so that a database that is away is explained and not traced.
    asyncio.run(darkroom.migrate())

    def ready() -> None:
        welcome(console, base_url, darkroom, works=works)

    config = configure(app, server, tasks)
    serving = Server(config, darkroom, on_ready=ready).serve(sockets=[listener])
    _run(serving, darkroom, config.get_loop_factory())


def _run(
    program: Coroutine[Any, Any, None],
    darkroom: Darkroom,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run it to its end. Python would then wait for every thread, for ever if one waits for a database that hangs."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            runner.run(program)
        except KeyboardInterrupt:
            _leave_behind(darkroom)
            raise
        _leave_behind(darkroom)


def _leave_behind(darkroom: Darkroom) -> None:
    if darkroom.stuck:
        logging.shutdown()
        os._exit(0)


@cli.command(name="sandbox")
def serve_sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8100,
) -> None:
    """Serve only the simulators; point servers at them with DARKROOM_SANDBOX_URL."""
    tasks = TaskSettings()
    server = ServerSettings().model_copy(update={"host": host, "port": port})
    ledger = Ledger(tasks.home / "sandbox" / "ledger.db")
    _begin_log(server)
    simulators = sandbox({one.name: one.simulator(ledger) for one in PROVIDERS}, ledger)
    url = f"{server.base_url()}/sandbox"
    app = Starlette(routes=[Mount("/sandbox", simulators)])
    listener = listen(host, port)

    def ready() -> None:
        console.print(f"Simulators on [bold]{url}[/]; point servers at them with DARKROOM_SANDBOX_URL={url}")

    Server(configure(app, server, tasks), on_ready=ready).run(sockets=[listener])


@cli.command()
def migrate() -> None:
    """Bring the database up to date, and stop."""
    database = Database(TaskSettings().database)
    database.lock()

    async def run() -> None:
        await database.migrate(lambda: migrate_engine(database.sync_url))
        await database.close()

    asyncio.run(run())
    console.print(f"{database.url.render_as_string(hide_password=True)} is up to date.")


@cli.command()
def schema(
    check: Annotated[Path | None, typer.Option(help="Compare with this file, and fail when it differs.")] = None,
) -> None:
    """Print the GraphQL schema."""
    text = print_schema()
    if check is None:
        typer.echo(text, nl=False)
    elif not check.exists() or check.read_text() != text:
        console.print(f"[red]{check} is not the schema of this code.[/] Run `make schema` and look at the difference.")
        raise typer.Exit(1)


@cli.command()
def settings(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="What there is to set, for the README.")] = False,
) -> None:
    """Print every setting with its value and where that comes from; secrets are masked."""
    if as_markdown:
        typer.echo(markdown())
        return
    rows = report()
    for words in unknown():
        console.print(f"[yellow]{escape(words)}[/]", highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps([{"name": r.name, "value": r.value, "source": r.source} for r in rows], indent=2))
        return
    table = Table(box=None, header_style="bold")
    table.add_column("setting", no_wrap=True, min_width=max(len(row.name) for row in rows))
    table.add_column("value", overflow="fold")
    table.add_column("from", no_wrap=True)
    for row in rows:
        table.add_row(row.name, escape(row.value), row.source, style="dim" if row.source == "default" else "")
    stdout = Console()
    if not stdout.is_terminal:  # a program, or a file, has no margin
        stdout.width = UNFOLDED
    stdout.print(table)


@cli.command()
def doctor(
    url: Annotated[str, typer.Argument(help="Where clients reach the server, like https://darkroom.example.com.")],
    seconds: Annotated[float, typer.Option(help="How long connections must stay open in silence.", min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Check from outside, through all proxies, that clients are served; starts no generation, and costs nothing."""
    try:
        site = Site.of(url)
    except NoSiteError as exc:
        raise typer.BadParameter(str(exc)) from exc
    findings: list[Finding] = []

    async def run() -> None:
        async with aclosing(examine(site, seconds)) as found:
            async for finding in found:
                findings.append(finding)
                if not as_json:
                    Console().print(line(finding), soft_wrap=True)

    asyncio.run(run())
    healthy = all(finding.ok is not False for finding in findings)
    if as_json:
        typer.echo(json.dumps({"url": site.url, "ok": healthy, "checks": [asdict(one) for one in findings]}, indent=2))
    raise typer.Exit(0 if healthy else 1)


def main() -> None:
    """The entry point: mistakes in settings are explained, not traced."""
    try:
        cli()
    except (AddressError, SettingsError, TaskError) as exc:
        console.print(f"[red]{escape(str(exc))}[/]", soft_wrap=True)
        raise SystemExit(1) from exc
    except ValidationError as exc:
        console.print("[red]A setting is not valid:[/]")
        for line in explain(exc):
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from exc


if __name__ == "__main__":
    main()
