"""What a person sees in the terminal when the server starts."""

from __future__ import annotations

from uuid import uuid4

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from tasks.darkroom import Darkroom
from tasks.images import place
from tasks.settings import TaskSettings

MUTATION = """curl -s {url}/graphql -H 'content-type: application/json' -d '{{
  "query": "mutation($input: StartGenerationInput!) {{ startGeneration(input: $input) {{ __typename ... on StartGenerationSuccess {{ task {{ id number status }} }} ... on Error {{ message }} }} }}",
  "variables": {{"input": {{
    "request": {{"openaiImages": {{"model": "gpt-image-1.5", "prompt": "A lighthouse at dusk", "partialImages": 3}}}},
    "idempotencyKey": "{key}"
  }}}}
}}'"""  # noqa: E501 - one command to copy
SHOWN_FIRST = "openai_images"
"""The provider of that picture, and of the one that GraphiQL starts with."""


def welcome(console: Console, url: str, darkroom: Darkroom, *, works: bool) -> None:
    """Say what to open and what to try, who runs the tasks, and what it costs."""
    text = Text()
    text.append("Open  ")
    text.append(f"{url}/graphql", style="bold cyan")
    text.append("\nand press ▶: a picture develops before your eyes.\n\n")
    if not works:
        text.append("Tasks are run by `darkroom worker`: start at least one, with the same settings.\n\n")
    for name, provider in darkroom.providers.items():
        text.append(darkroom.definitions[name].title, style="bold")
        simulated = ": the simulator, which costs nothing\n"
        text.append(simulated if provider.sandbox else ": your account; each picture is billed\n")
    text.append(kept(darkroom.settings), style="dim")
    console.print(Panel(text, title="Darkroom is ready", border_style="red", padding=(1, 2), expand=False))
    first = darkroom.providers.get(SHOWN_FIRST)
    bill = "" if first is None or first.sandbox else ", which your account is billed for, once for each idempotencyKey"
    console.print(f"Or start one from another terminal{bill}:\n", style="dim", soft_wrap=True)
    console.print(MUTATION.format(url=url, key=f"first-{uuid4().hex[:12]}"), highlight=False, soft_wrap=True)
    end = ending(darkroom) if works else "The tasks go on where they are run."
    console.print(f"\nCtrl-C stops the server. {end}", style="dim", highlight=False, soft_wrap=True)


def kept(settings: TaskSettings) -> str:
    """Where everything is, without a password."""
    if settings.database_url is None and settings.storage_url is None:
        return f"Everything is kept in {settings.home.resolve()}"
    return f"Tasks are kept in {settings.database_place}\nPictures are kept in {place(settings.storage)}"


def ending(darkroom: Darkroom) -> str:
    """What becomes of the generations that are running when the process is stopped."""
    names = [
        darkroom.definitions[name].title
        for name, provider in darkroom.providers.items()
        if not provider.capabilities.resumable
    ]
    lost = f", but not those of {' and '.join(names)}: they end as OUTCOME_UNKNOWN" if names else ""
    return (
        f"Running generations then get {darkroom.settings.shutdown_seconds:g} s (DARKROOM_SHUTDOWN_SECONDS) to end; "
        f"the others go on later{lost}."
    )
