"""`Provider`: the catalogue that frontends build their forms from."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.scalars import JSON
from strawberry.utils.str_converters import to_camel_case

import resolvers.providers
from graph.context import Info
from graph.enums import CircuitStatus, FailureCode, ParameterType
from providers import contract, parameters
from resolvers.providers import AccountHealth, ProviderEntry


@strawberry.type(description="One value of a closed list.")
class ParameterOption:
    """A choice in a form."""

    name: str = strawberry.field(description="The value as GraphQL writes it.")
    value: str = strawberry.field(description="The value as the provider writes it.")
    description: str = strawberry.field(description="What it means.")


@strawberry.type(description="One parameter of a provider, with all that a form needs to know. Bounds are inclusive.")
class Parameter:
    """A field of the provider's input."""

    name: str = strawberry.field(description="The name of the field in the provider's input.")
    type: ParameterType = strawberry.field(description="What kind of value it takes.")
    many: bool = strawberry.field(description="Whether it takes a list of such values.")
    required: bool = strawberry.field(description="Whether it must be given.")
    default: JSON | None = strawberry.field(
        description="What is used when it is left out; null when that is up to the provider."
    )
    minimum: float | None = strawberry.field(description="The smallest number.")
    maximum: float | None = strawberry.field(description="The largest number.")
    step: float | None = strawberry.field(description="The distance between two valid numbers.")
    min_length: int | None = strawberry.field(description="The fewest characters.")
    max_length: int | None = strawberry.field(description="The most characters.")
    options: list[ParameterOption] = strawberry.field(description="Every valid value, where the list is closed.")
    suggestions: list[str] = strawberry.field(description="Known values, where the list is open.")
    description: str = strawberry.field(description="What it does.")


@strawberry.type(description="What a provider can do.")
class Capabilities:
    """Facts about the remote API."""

    max_images: int = strawberry.field(description="Most pictures of one task.")
    max_partial_images: int = strawberry.field(description="Most partial images of one picture; 0 when it has none.")
    resumable: bool = strawberry.field(
        description="Whether a generation can be watched again after this server was restarted."
    )
    findable: bool = strawberry.field(description="Whether the provider can be asked if a request has arrived.")
    cancellable: bool = strawberry.field(description="Whether the provider can be asked to stop.")
    delivers_images: bool = strawberry.field(description="Whether the provider documents a way to fetch the result.")
    reports_usage: bool = strawberry.field(description="Whether the provider says what it counted.")
    reports_cost: bool = strawberry.field(description="Whether the provider says what it charged.")


@strawberry.type(description="What is left of one kind of credit at a provider.")
class Credit:
    """A line of an account."""

    kind: str = strawberry.field(description="What it can be spent on, in the provider's own word.")
    left: float | None = strawberry.field(description="How much is left; null when it is unlimited.")
    total: float | None = strawberry.field(description="How much there was, where the provider says so.")


@strawberry.type(
    description="Whether generations are sent to the account, judged by what became of those that were. Nothing is "
    "ever sent only to find out."
)
class Circuit:
    """A circuit breaker, shared by all nodes."""

    status: CircuitStatus = strawberry.field(description="Whether generations are sent.")
    failures: int = strawberry.field(description="How many in a row have failed in a way that looks like an outage.")
    opened_at: datetime | None = strawberry.field(description="Since when it has not been closed.")
    retry_at: datetime | None = strawberry.field(description="When the next generation may be sent.")
    last_failure: FailureCode | None = strawberry.field(description="What the last failure was that counted.")
    last_message: str | None = strawberry.field(description="The same in words.")
    last_success_at: datetime | None = strawberry.field(
        description="When the provider last accepted a generation, within ten seconds."
    )


@strawberry.type(description="What is known about the account at a provider.")
class ProviderHealth:
    """The answer to a question that costs nothing."""

    usable: bool = strawberry.field(description="Whether generations can be started.")
    message: str = strawberry.field(description="What is the matter, for a person.")
    credits: list[Credit] = strawberry.field(description="What is left of the account's credits.")
    circuit: Circuit = strawberry.field(description="What this server's own traffic has shown.")


@strawberry.type(description="A remote image API that this server can use.")
class Provider:
    """An entry of the catalogue."""

    entry: strawberry.Private[ProviderEntry]
    name: str = strawberry.field(description="Its name, as it stands in filters.")
    input_field: str = strawberry.field(description="Its field in `GenerationRequest`.")
    title: str = strawberry.field(description="Its name for people.")
    description: str = strawberry.field(description="What it is.")
    sandbox: bool = strawberry.field(
        description="Whether the built-in simulator stands in for it, because no account is configured. It costs "
        "nothing."
    )
    capabilities: Capabilities = strawberry.field(description="What it can do.")

    @strawberry.field(description="Its parameters, in the form that a form can be built from.")
    def parameters(self) -> list[Parameter]:
        """Read off the request model."""
        return [_parameter(parameter) for parameter in self.entry.parameters]

    @strawberry.field(
        description="What is known about the account: what the provider says now, where it can be asked, and what has "
        "become of the generations that were sent to it. It never generates anything."
    )
    async def health(self, info: Info) -> ProviderHealth | None:
        """Asked only when it is selected."""
        return _health(await resolvers.providers.health(info.context.darkroom, self.name))


def _health(found: AccountHealth) -> ProviderHealth:
    asked = () if found.asked is None else found.asked.credits
    return ProviderHealth(
        usable=found.usable,
        message=found.message,
        credits=[Credit(kind=one.kind, left=one.left, total=one.total) for one in asked],
        circuit=Circuit(
            status=found.circuit.state,
            failures=found.circuit.failures,
            opened_at=found.circuit.opened_at,
            retry_at=found.circuit.retry_at,
            last_failure=found.circuit.last_failure,
            last_message=found.circuit.last_message,
            last_success_at=found.circuit.last_success_at,
        ),
    )


def provider_of(entry: ProviderEntry) -> Provider:
    """The schema's view of an entry of the catalogue."""
    return Provider(
        entry=entry,
        name=entry.name,
        input_field=to_camel_case(entry.name),
        title=entry.title,
        description=entry.description,
        sandbox=entry.sandbox,
        capabilities=_capabilities(entry.capabilities),
    )


def _capabilities(found: contract.Capabilities) -> Capabilities:
    return Capabilities(
        max_images=found.max_images,
        max_partial_images=found.max_partial_images,
        resumable=found.resumable,
        findable=found.findable,
        cancellable=found.cancellable,
        delivers_images=found.delivers_images,
        reports_usage=found.reports_usage,
        reports_cost=found.reports_cost,
    )


def _parameter(found: parameters.Parameter) -> Parameter:
    return Parameter(
        name=to_camel_case(found.name),
        type=found.type,
        many=found.many,
        required=found.required,
        default=None if found.default is None else JSON(found.default),
        minimum=found.minimum,
        maximum=found.maximum,
        step=found.step,
        min_length=found.min_length,
        max_length=found.max_length,
        options=[ParameterOption(name=one.name, value=one.value, description=one.description) for one in found.options],
        suggestions=list(found.suggestions),
        description=found.description,
    )
