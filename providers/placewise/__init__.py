"""Placewise: `generate_image` of its MPC API, which answers with a task id and documents no way to the picture."""

from __future__ import annotations

from providers.contract import ProviderDefinition
from providers.placewise.adapter import Placewise
from providers.placewise.request import PlacewiseRequest
from providers.placewise.settings import PlacewiseSettings
from providers.placewise.simulator import sandbox


def connect(sandbox_url: str) -> Placewise:
    """A client for the account in the settings, or for the sandbox at `sandbox_url` where there is none.

    Raises pydantic's ValidationError for settings that cannot be meant.
    """
    settings = PlacewiseSettings()
    return Placewise(settings, base_url=settings.base_url or sandbox_url, sandbox=settings.base_url is None)


def with_images(request: PlacewiseRequest, count: int) -> PlacewiseRequest:
    """The request unchanged: it makes one picture, and no parameter says how many."""
    return request


DEFINITION: ProviderDefinition[PlacewiseRequest] = ProviderDefinition(
    name="placewise",
    title="Placewise",
    description="Image generation of the Placewise MPC API, for loyalty clubs. The vendor answers with a task id and "
    "documents no way to fetch the picture; where a way is configured, the picture is fetched.",
    request=PlacewiseRequest,
    expected_images=lambda request: 1,
    with_images=with_images,
    settings=(PlacewiseSettings,),
    connect=connect,
    simulator=sandbox,
    reports=True,
)
