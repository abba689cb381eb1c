"""The adapter contract: what every remote image API looks like to the rest of Darkroom.

An adapter is one class that turns a request into a stream of events over httpx. It keeps no state
between calls, knows no database and no GraphQL, and converts every failure into `providers.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, JsonValue
from pydantic_settings import BaseSettings
from starlette.types import ASGIApp

from providers.described import DescribedEnum
from providers.limits import Limits
from providers.sandbox.ledger import Ledger

R = TypeVar("R", bound=BaseModel)
R_contra = TypeVar("R_contra", bound=BaseModel, contravariant=True)


class ProgressOrigin(DescribedEnum):
    """Where a progress number comes from."""

    REPORTED = "reported", "The provider said so."
    ESTIMATED = "estimated", "Derived here, for example from how many partial images have arrived."


class CancelOutcome(DescribedEnum):
    """What canceling a generation really achieved."""

    NEVER_SENT = "never_sent", "Nothing had been sent to the provider, so nothing is billed."
    STOPPED = "stopped", "The provider confirmed that it stopped; what it bills is up to its terms."
    ABANDONED = (
        "abandoned",
        "The provider offers no way to stop it: it goes on, and probably bills it. A picture that still arrives is "
        "kept.",
    )
    TOO_LATE = "too_late", "It had finished before the request to stop arrived."


@dataclass(frozen=True, slots=True)
class Submission:
    """A generation the provider has accepted, in the form another process needs to go on watching it.

    `id` is the provider's own id (None where it gives none), `request_id` what its support asks for,
    `state` whatever else the adapter needs to resume; all of it is stored as plain JSON.
    """

    id: str | None = None
    request_id: str | None = None
    state: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has the request. From here on it may be billed."""

    submission: Submission


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: `fraction` is 0–1, or None where only the message is known."""

    fraction: float | None
    origin: ProgressOrigin
    message: str | None = None


@dataclass(frozen=True, slots=True)
class PartialImage:
    """An earlier stage of picture `index` (0-based within the task), as a complete image file."""

    index: int
    partial_image_index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Effective:
    """What the provider made of the request. None where it did not say; never a guess of ours."""

    model: str | None = None
    revised_prompt: str | None = None
    size: str | None = None
    quality: str | None = None
    output_format: str | None = None
    background: str | None = None


@dataclass(frozen=True, slots=True)
class FinalImage:
    """Picture `index` (0-based within the task) is finished; `data` is the file, byte for byte as it came."""

    index: int
    data: bytes
    effective: Effective = field(default_factory=Effective)
    preview: bool = False
    """Whether this is only a preview of a picture that has to be bought (`Purchasing`)."""
    provider_image_id: str | None = None
    """The provider's own id of the picture, where it has one."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider counted. `reported` is its own object, unchanged; unknown numbers are None, not 0."""

    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    reported: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the person who asked should know, that is no failure: a value without effect, a substitution."""

    message: str
    parameter: str | None = None


ProviderEvent = Accepted | Progress | PartialImage | FinalImage | Usage | Notice


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do, for clients that build their interface from it."""

    max_images: int
    """Most pictures one request can ask for."""
    max_partial_images: int
    """Most partial images per picture; 0 means the provider has none."""
    resumable: bool
    """Whether a generation can be watched again after this server lost sight of it."""
    findable: bool
    """Whether the provider can be asked if a request arrived, so that a lost answer loses no picture."""
    cancellable: bool
    """Whether the provider can be asked to stop."""
    delivers_images: bool
    """Whether the provider documents a way to fetch the result."""
    reports_usage: bool
    """Whether the provider says what it counted."""
    reports_cost: bool
    """Whether the provider says what it charged."""
    reports_result: bool = False
    """Whether it sends the result to the `Callback` it was told of in the request, also when nothing else is known."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a provider sent to a callback URL: the body as it came, and the media type it claimed (may be empty)."""

    media_type: str
    body: bytes


class Callback(Protocol):
    """A place of this server's own where a provider can report on one task."""

    @property
    def url(self) -> str:
        """An absolute URL with a token in it that nobody can guess. Only this task's provider is told."""
        ...

    def deliveries(self) -> AsyncGenerator[Delivery, None]:
        """What has been sent to the URL: first what arrived before, also before a restart, then what arrives. Never
        ends by itself, may repeat and reorder; close it with `aclosing`."""
        ...


@dataclass(frozen=True, slots=True)
class Credit:
    """What is left of one kind of credit. None means unlimited."""

    kind: str
    left: float | None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What a provider says about an account when it is asked without generating anything."""

    usable: bool
    message: str
    credits: tuple[Credit, ...] = ()


class Provider(Protocol[R_contra]):
    """One remote API, connected to one account or to the sandbox."""

    sandbox: bool
    """Whether this talks to the built-in simulator, which costs nothing."""

    @property
    def capabilities(self) -> Capabilities:
        """What this account can do; settings may add to what the provider documents."""
        ...

    @property
    def limits(self) -> Limits:
        """How much this account may be asked for at a time. Adapters keep no count: whoever starts them does."""
        ...

    def run(
        self,
        request: R_contra,
        *,
        reference: str,
        resume: Submission | None = None,
        callback: Callback | None = None,
        known: Mapping[str, int] | None = None,
    ) -> AsyncGenerator[ProviderEvent, None]:
        """Without `resume` it posts, once: that pays. Its first event is `Accepted`; then whatever comes.

        It ends normally only when every picture it will deliver has been yielded as `FinalImage`, and raises
        a `ProviderError` otherwise. With `resume` it only goes on watching and never posts. `reference` is
        the task's own id, passed on where the provider has room for one. `callback` is where the provider can report,
        for those that report; None when this server cannot be reached from outside. `known` holds the pictures of this
        task that are here already, `provider_image_id` to index, so that `resume` delivers only the others and gives
        them numbers of their own. Close it with `aclosing`.
        """
        ...

    async def find(self, reference: str) -> Submission | None:
        """Did the POST with this reference arrive? Asked after a crash inside it; None means nobody can tell.

        Raises OutcomeUnknownError where the provider could tell and cannot be asked now: ask again later.
        """
        ...

    async def cancel(self, submission: Submission) -> CancelOutcome:
        """Ask the provider to stop, and say what that really achieved.

        `run` goes on, if it is running: it ends by itself where the provider stopped, and delivers where it did not.
        Answers within seconds and never raises a `ProviderError`: a provider that cannot be asked has not stopped.
        Never NEVER_SENT, since there is a submission.
        """
        ...

    async def health(self) -> Health | None:
        """What the provider says about the account; None for one that cannot be asked. Never generates, never pays."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


@runtime_checkable
class Purchasing(Protocol):
    """A provider whose finished pictures are previews until they are bought."""

    async def purchase(self, provider_image_id: str) -> bytes:
        """Buy one picture and return the file. That pays, once per picture: buying it again is free at such vendors."""
        ...


@runtime_checkable
class Retrying(Protocol[R_contra]):
    """A provider that can try a failed generation again in place."""

    async def retry(self, submission: Submission, request: R_contra) -> Submission:
        """Try again, with the parameters of `request`. That may pay."""
        ...


@runtime_checkable
class Deleting(Protocol):
    """A provider that can forget a generation."""

    async def delete(self, submission: Submission) -> None:
        """Delete the generation at the provider. Deleting one that is gone is no error."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderDefinition(Generic[R]):
    """A provider as the registry lists it. Everything else is derived from this and from its request model."""

    name: str
    """Its key in the `@oneOf` input (in camelCase there), in the tables and in URLs: `openai_images`."""
    title: str
    """Its name for people."""
    description: str
    """What it is, in a sentence."""
    request: type[R]
    """Its parameters; the one place they are defined."""
    expected_images: Callable[[R], int]
    """How many pictures a request asks for."""
    with_images: Callable[[R, int], R]
    """The same request asking for that many pictures, from 1 to `expected_images(request)`: a task that is tried again
    pays only for those that are missing. Where a request always makes the same number, it comes back unchanged, and
    pictures that are here already are made and billed again."""
    settings: tuple[type[BaseSettings], ...]
    """Its settings, as `darkroom settings` and the README list them."""
    connect: Callable[[str], Provider[R]]
    """Reads the provider's settings and opens a client; the argument is the URL its simulator is served under,
    used when no account is configured."""
    simulator: Callable[[Ledger], ASGIApp]
    """Its remote API, simulated, billing into the ledger; served under `/sandbox/<name>`."""
    reports: bool = False
    """Whether it can report to a `Callback`."""
    wire_name: Callable[[str], str] = str
    """What a field of the request is called on the wire, for the documentation."""
