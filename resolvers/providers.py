"""`providers`: what can be asked of whom. Reads definitions only; it never calls a provider, and never spends money."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from providers.contract import Capabilities, ProviderDefinition
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
        capabilities=definition.capabilities,
        request=definition.request,
    )
