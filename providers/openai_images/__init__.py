"""OpenAI-style images: `POST …/images/generations`, at OpenAI, behind the TrueFoundry gateway, or anywhere else."""

from __future__ import annotations

from providers.contract import ProviderDefinition
from providers.openai_images.adapter import OpenAIImages
from providers.openai_images.request import OpenAIImagesRequest
from providers.openai_images.settings import OpenAIImagesSettings
from providers.openai_images.simulator import simulator


def connect(sandbox_url: str) -> OpenAIImages:
    """A client for the account in the settings, or for the sandbox at `sandbox_url` where there is none.

    Raises pydantic's ValidationError for settings that cannot be meant.
    """
    settings = OpenAIImagesSettings()
    return OpenAIImages(settings, base_url=settings.base_url or sandbox_url, sandbox=settings.base_url is None)


def with_images(request: OpenAIImagesRequest, count: int) -> OpenAIImagesRequest:
    """The same request for `count` pictures. Raises pydantic's ValidationError for a number that cannot be made."""
    return OpenAIImagesRequest.model_validate({**request.model_dump(exclude_unset=True), "n": count})


DEFINITION: ProviderDefinition[OpenAIImagesRequest] = ProviderDefinition(
    name="openai_images",
    title="OpenAI Images",
    description="Any API that speaks OpenAI's images/generations: OpenAI itself, the TrueFoundry AI Gateway and the "
    "providers behind it.",
    request=OpenAIImagesRequest,
    expected_images=lambda request: request.n or 1,
    with_images=with_images,
    settings=(OpenAIImagesSettings,),
    connect=connect,
    simulator=simulator,
)
