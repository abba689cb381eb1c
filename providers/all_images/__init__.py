"""All-Images.ai: four photographs per generation, made with Midjourney, bought one by one."""

from __future__ import annotations

import httpx

from providers.all_images.adapter import AllImages
from providers.all_images.request import PARAMS, AllImagesRequest
from providers.all_images.settings import AllImagesSettings
from providers.all_images.simulator import simulator
from providers.all_images.watch import EXPECTED
from providers.contract import ProviderDefinition
from providers.http import is_loopback
from providers.sandbox.settings import SandboxSettings


def connect(sandbox_url: str) -> AllImages:
    """A client for the account in the settings, or for the sandbox at `sandbox_url` where there is none.

    Raises pydantic's ValidationError for settings that cannot be meant.
    """
    settings = AllImagesSettings()
    address = settings.address or sandbox_url
    if is_loopback(httpx.URL(address).host):
        settings = settings.nearby(SandboxSettings().pace)
    return AllImages(settings, base_url=address, sandbox=settings.address is None)


def wire_name(field: str) -> str:
    """The vendor's name of a field: `params.` for those that travel in that list."""
    if field in PARAMS:
        return f"params.{PARAMS[field]}"
    first, *rest = field.split("_")
    return "(not sent)" if field == "purchase" else first + "".join(map(str.title, rest))


def with_images(request: AllImagesRequest, count: int) -> AllImagesRequest:
    """The request unchanged: every generation makes four pictures, and no parameter asks for fewer (contract all-images
    §2.1). Who asks again for one that is missing gets, and pays for, four.
    """
    return request


DEFINITION: ProviderDefinition[AllImagesRequest] = ProviderDefinition(
    name="all_images",
    title="All-Images.ai",
    description="Four photographs per generation, from a plain description or a raw Midjourney prompt. Finished "
    "pictures are previews until they are bought.",
    request=AllImagesRequest,
    expected_images=lambda request: EXPECTED,
    with_images=with_images,
    settings=(AllImagesSettings,),
    connect=connect,
    simulator=simulator,
    reports=True,
    wire_name=wire_name,
)
