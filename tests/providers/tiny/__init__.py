"""Tiny, a provider that exists only here: what it takes to add one is what is in this folder, and a registry line."""

from __future__ import annotations

from providers.contract import ProviderDefinition
from tests.providers.tiny.adapter import Tiny
from tests.providers.tiny.request import TinyRequest
from tests.providers.tiny.settings import TinySettings
from tests.providers.tiny.simulator import simulator

DEFINITION: ProviderDefinition[TinyRequest] = ProviderDefinition(
    name="tiny",
    title="Tiny",
    description="Paints squares.",
    request=TinyRequest,
    expected_images=lambda _: 1,
    with_images=lambda request, _: request,
    settings=(TinySettings,),
    connect=Tiny,
    simulator=simulator,
)
