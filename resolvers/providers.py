"""`providers`: what can be asked of whom. Nothing here ever generates, or spends money."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel

from providers.contract import Capabilities, Health, ProviderDefinition
from providers.errors import ProviderError
from providers.parameters import Parameter, parameters_of
from tasks.circuit import CircuitState, CircuitStatus
from tasks.darkroom import Darkroom

UNASKED = "This API cannot be asked about its account. Nothing that was sent to it lately speaks against using it."


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


@dataclass(frozen=True, slots=True)
class AccountHealth:
    """What is known about an account: `asked` is what the provider says now, None where it cannot be asked without
    generating; `circuit` is what this server's own traffic has shown."""

    asked: Health | None
    circuit: CircuitState

    @property
    def usable(self) -> bool:
        """Whether a generation would be sent now, and be it to find out whether the account works again."""
        closed = self.circuit.state is not CircuitStatus.OPEN
        due = self.circuit.retry_at is not None and self.circuit.retry_at <= datetime.now(UTC)
        return (self.asked is None or self.asked.usable) and (closed or due)

    @property
    def message(self) -> str:
        """What is the matter, for a person."""
        if self.circuit.state is CircuitStatus.OPEN and self.circuit.last_message:
            return self.circuit.last_message
        return UNASKED if self.asked is None else self.asked.message


async def health(darkroom: Darkroom, name: str) -> AccountHealth:
    """What is known about the account at a provider. Never generates."""
    circuit = await darkroom.accounts.read(name)
    try:
        return AccountHealth(await darkroom.providers[name].health(), circuit)
    except ProviderError as exc:
        return AccountHealth(Health(usable=False, message=exc.message), circuit)
