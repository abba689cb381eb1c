"""The settings: what makes an account, and mistakes that are explained before they cost anything."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from providers import all_images
from providers.all_images.settings import DOCUMENTED_URL, PREFIX, AllImagesSettings

pytestmark = pytest.mark.anyio


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> AllImagesSettings:
    for name, value in values.items():
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", value)
    return AllImagesSettings()


async def test_without_an_account_the_sandbox_answers() -> None:
    provider = all_images.connect("http://127.0.0.1:1/sandbox/all_images")
    assert provider.sandbox
    await provider.aclose()
    assert AllImagesSettings().address is None


async def test_a_key_is_an_account_at_the_documented_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, api_key="k").address == DOCUMENTED_URL
    provider = all_images.connect("http://127.0.0.1:1/sandbox/all_images")
    assert not provider.sandbox
    await provider.aclose()


def test_another_address_can_be_set_with_or_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, base_url="http://127.0.0.1:9/v1").address == "http://127.0.0.1:9/v1"
    assert settings(monkeypatch, api_key="k").address == "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("base_url", "api.all-images.ai", "https://api.all-images.ai/v1"),
        ("base_url", "https://user:pass@x.example/v1", "API_KEY"),
        ("base_url", "https://x.example/v1/image-generations", "leave /image-generations out"),
        ("base_url", "https://x.example/v1?api-key=secret", "http or https address"),
        ("api_key", "two words", "printable ASCII"),
        ("api_key", "line\nbreak", "printable ASCII"),
        ("poll_first_seconds", "0", "greater than 0"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_explained(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(monkeypatch, **{name: value})
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_an_api_on_this_machine_is_looked_at_more_often_unless_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (AllImagesSettings().poll_first_seconds, AllImagesSettings().poll_longest_seconds) == (5, 15)
    assert AllImagesSettings().nearby(0.6).poll_first_seconds == pytest.approx(0.2)
    assert AllImagesSettings().nearby(0).lookup_seconds == 1
    assert (AllImagesSettings().doubt_seconds, AllImagesSettings().nearby(0).doubt_seconds) == (300, 1)
    chosen = settings(monkeypatch, poll_first_seconds="3", lookup_seconds="7").nearby(0)
    assert (chosen.poll_first_seconds, chosen.poll_longest_seconds, chosen.lookup_seconds) == (3, 15, 7)


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in AllImagesSettings.model_fields.values())
