"""The settings of an account: where it is, and what cannot be meant."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from providers import openai_images
from providers.http import Network, NetworkSettings
from providers.openai_images.adapter import OpenAIImages
from providers.openai_images.settings import OpenAIImagesSettings
from providers.registry import PROVIDERS, definition

pytestmark = pytest.mark.anyio

PREFIX = "DARKROOM_OPENAI_IMAGES_"


async def test_without_an_account_it_is_the_sandbox() -> None:
    provider = openai_images.connect("http://127.0.0.1:1/sandbox/openai_images")
    assert provider.sandbox
    await provider.aclose()


async def test_with_an_address_it_is_that_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}BASE_URL", "https://gateway.example/api/llm")
    monkeypatch.setenv(f"{PREFIX}TOKEN", "sk-secret")
    monkeypatch.setenv(f"{PREFIX}METADATA", '{"team": "print"}')
    monkeypatch.setenv(f"{PREFIX}READ_TIMEOUT_SECONDS", "")
    provider = openai_images.connect("http://127.0.0.1:1")
    assert not provider.sandbox
    await provider.aclose()
    settings = OpenAIImagesSettings()
    assert settings.metadata == {"team": "print"}
    assert settings.read_timeout_seconds == 600, "an empty variable is none"
    assert "sk-secret" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_a_token_without_an_address_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}TOKEN", "sk-secret")
    with pytest.raises(ValidationError) as caught:
        openai_images.connect("http://127.0.0.1:1")
    assert f"{PREFIX}BASE_URL" in str(caught.value)
    assert "api.openai.com/v1" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["sk-secret\nX: y", "sk secret", "sk-sécret", "sk-secret\x00"])
def test_a_token_that_cannot_be_a_header_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValidationError, match="printable ASCII") as caught:
        OpenAIImagesSettings.model_validate({"base_url": "https://api.openai.com/v1", "token": token})
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("api.openai.com/v1", "http or https"),
        ("ftp://x", "http or https"),
        ("https://", "http or https"),
        ("https://x:99999/v1", "http or https"),
        ("https://x/v1#part", "http or https"),
        ("https://x/v 1", "http or https"),
        ("https://me:hunter2@x/v1", "TOKEN"),
        ("https://x/v1/images/generations", "is added"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        OpenAIImagesSettings.model_validate({"base_url": url})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"metadata": {"team": "x" * 129}},
        {"metadata": {"team": 7}},
        {"request_timeout_ms": 0},
        {"read_timeout_seconds": 0},
        {"frame_limit_bytes": 1},
        {"retry_config": [1]},
    ],
)
def test_values_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        OpenAIImagesSettings.model_validate(wrong)


def test_every_setting_is_described() -> None:
    for name, field in {**OpenAIImagesSettings.model_fields, **NetworkSettings.model_fields}.items():
        assert field.description, name


def test_an_unknown_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert NetworkSettings().network is Network.LOOPBACK
    monkeypatch.setenv("DARKROOM_NETWORK", "nowhere")
    with pytest.raises(ValidationError):
        NetworkSettings()


def test_the_registry_knows_its_providers() -> None:
    assert definition("openai_images") is openai_images.DEFINITION
    assert len({provider.name for provider in PROVIDERS}) == len(PROVIDERS)
    with pytest.raises(LookupError, match="openai_images"):
        definition("nobody")
    capabilities = OpenAIImages.capabilities
    assert (capabilities.max_images, capabilities.max_partial_images) == (10, 3)
    assert not capabilities.resumable
