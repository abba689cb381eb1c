"""What a person sees in the terminal when the server starts."""

from __future__ import annotations

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from tasks.darkroom import Darkroom

MUTATION = """curl -s {url}/graphql -H 'content-type: application/json' -d '{{
  "query": "mutation($input: StartGenerationInput!) {{ startGeneration(input: $input) {{ __typename ... on StartGenerationSuccess {{ task {{ id number status }} }} ... on Error {{ message }} }} }}",
  "variables": {{"input": {{"request": {{"openaiImages": {{"model": "gpt-image-1.5", "prompt": "A lighthouse at dusk", "partialImages": 3}}}}}}}}
}}'"""  # noqa: E501 - one command to copy


def welcome(console: Console, url: str, darkroom: Darkroom) -> None:
    """Say what to open and what to try."""
    text = Text()
    text.append("Open  ")
    text.append(f"{url}/graphql", style="bold cyan")
    text.append("\nand press ▶: a picture develops before your eyes.\n\n")
    for name, provider in darkroom.providers.items():
        text.append(darkroom.definitions[name].title, style="bold")
        text.append(": the built-in simulator, which costs nothing\n" if provider.sandbox else ": your account\n")
    text.append(f"Everything is kept in {darkroom.settings.home.resolve()}", style="dim")
    console.print(Panel(text, title="Darkroom is ready", border_style="red", padding=(1, 2), expand=False))
    console.print("Or start one from another terminal:\n", style="dim")
    console.print(MUTATION.format(url=url), highlight=False, soft_wrap=True)
    console.print("\nCtrl-C stops the server; nothing is lost.", style="dim")
