"""`providers`: what can be asked of whom. Nothing here ever generates, or spends money."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from providers.contract import Capabilities, Health, ProviderDefinition
from providers.errors import ProviderError
from providers.parameters import Parameter, parameters_of
from tasks.darkroom import Darkroom


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """A provider as the catalogue lists it."""

    name: str
    title: str
    description: str
    sandbox: bool
    capabilities: Capabilities
    request: type[BaseModel]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters, in the form that a form can be built from."""
        return parameters_of(self.request)


def providers(darkroom: Darkroom) -> list[ProviderEntry]:
    """Every provider this server knows, in the order of the registry."""
    return [_entry(darkroom, definition) for definition in darkroom.definitions.values()]


def provider(darkroom: Darkroom, name: str) -> ProviderEntry:
    """The provider with this name."""
    return _entry(darkroom, darkroom.definitions[name])


def _entry(darkroom: Darkroom, definition: ProviderDefinition[BaseModel]) -> ProviderEntry:
    return ProviderEntry(
        name=definition.name,
        title=definition.title,
        description=definition.description,
        sandbox=darkroom.providers[definition.name].sandbox,
        capabilities=darkroom.providers[definition.name].capabilities,
        request=definition.request,
    )


async def health(darkroom: Darkroom, name: str) -> Health | None:
    """What a provider says about its account; None for one that cannot be asked without generating."""
    try:
        return await darkroom.providers[name].health()
    except ProviderError as exc:
        return Health(usable=False, message=exc.message)
