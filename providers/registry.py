"""The providers there are. Adding one is a folder, a line here, and a field in the `@oneOf` input."""

from __future__ import annotations

from typing import TypeAlias, cast

from pydantic import BaseModel

from providers import openai_images
from providers.contract import ProviderDefinition

AnyDefinition: TypeAlias = ProviderDefinition[BaseModel]
"""A definition of whichever provider. It is only ever handed requests that its own model has validated."""

PROVIDERS: tuple[AnyDefinition, ...] = (cast(AnyDefinition, openai_images.DEFINITION),)


def definition(name: str) -> AnyDefinition:
    """The provider called `name`. Raises LookupError, with the names there are."""
    for provider in PROVIDERS:
        if provider.name == name:
            return provider
    raise LookupError(f"there is no provider '{name}'; there are: {', '.join(each.name for each in PROVIDERS)}")
