"""The providers there are. Adding one is a folder and a line here; everything else follows from its definition."""

from __future__ import annotations

from typing import TypeAlias, cast

from pydantic import BaseModel

from providers import all_images, openai_images, placewise
from providers.contract import ProviderDefinition

AnyDefinition: TypeAlias = ProviderDefinition[BaseModel]
"""A definition of whichever provider. It is only ever handed requests that its own model has validated."""

PROVIDERS: tuple[AnyDefinition, ...] = (
    cast(AnyDefinition, openai_images.DEFINITION),
    cast(AnyDefinition, placewise.DEFINITION),
    cast(AnyDefinition, all_images.DEFINITION),
)


def definition(name: str) -> AnyDefinition:
    """The provider called `name`. Raises LookupError, with the names there are."""
    for provider in PROVIDERS:
        if provider.name == name:
            return provider
    raise LookupError(f"there is no provider '{name}'; there are: {', '.join(each.name for each in PROVIDERS)}")
