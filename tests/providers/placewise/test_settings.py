"""The settings of an account: where it is, how results come, and what cannot be meant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from providers import placewise
from providers.placewise.adapter import DOCUMENTED
from providers.placewise.channel import NoChannel, PollChannel, PushChannel, ResultChannel
from providers.placewise.pointer import check_pointer, value_at
from providers.placewise.rules import PREFIX
from providers.placewise.settings import HOSTS, PlacewiseSettings
from tests.providers.placewise.account import POLL, PUSH, TOKEN, USER_TOKEN, account

pytestmark = pytest.mark.anyio

ACCOUNT: dict[str, object] = {
    "base_url": "https://api.mpc.placewise.com", "client_token": TOKEN, "loyalty_club_slug": "infinity-mall",
}  # fmt: skip


def settings(**values: object) -> PlacewiseSettings:
    return PlacewiseSettings.model_validate({**ACCOUNT, **values})


async def test_without_an_account_it_is_the_sandbox_which_is_polled() -> None:
    provider = placewise.connect("http://127.0.0.1:1/sandbox/placewise")
    assert provider.sandbox
    assert provider.capabilities.delivers_images
    await provider.aclose()


async def test_what_is_promised_depends_on_the_result_channel() -> None:
    for given, delivers in (({}, False), (POLL, True), (PUSH, True)):
        provider = account("http://127.0.0.1:1", **given)
        assert provider.capabilities.delivers_images is delivers
        assert provider.capabilities.resumable
        await provider.aclose()
    documented = DOCUMENTED
    assert (documented.delivers_images, documented.resumable, documented.findable) == (False, True, False)
    assert (documented.max_images, documented.max_partial_images, documented.cancellable) == (1, 0, False)


@pytest.mark.parametrize("name", HOSTS)
def test_the_hosts_of_the_vendor_have_short_names(name: str) -> None:
    assert settings(base_url=name).base_url == HOSTS[name]
    assert "placewise.com" in HOSTS[name]


async def test_an_account_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BASE_URL": "dev", "USER_TOKEN": USER_TOKEN, "CLIENT_TOKEN": "", "LOYALTY_CLUB_SLUG": "infinity-mall",
        "RESULTS": "poll", "POLL_URL_TEMPLATE": "/v1/jobs/{id}", "STATUS_POINTER": "/state", "ENCODING": "json",
        "DONE_VALUES": "finished, ready", "FAILED_VALUES": '["failed", "gone, for good"]', "IMAGE_POINTER": "/url",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    provider = placewise.connect("http://127.0.0.1:1")
    assert not provider.sandbox
    await provider.aclose()
    found = PlacewiseSettings()
    assert found.client_token is None, "an empty variable is none"
    assert found.done_values == ("finished", "ready")
    assert found.failed_values == ("failed", "gone, for good")
    assert USER_TOKEN not in f"{found!r} {found} {found.model_dump()} {found.model_dump_json()} {provider!r}"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"client_token": TOKEN}, f"{PREFIX}BASE_URL"),
        ({"user_token": USER_TOKEN}, f"{PREFIX}BASE_URL"),
        ({"base_url": "dev", "loyalty_club_slug": "x"}, f"{PREFIX}USER_TOKEN"),
        ({"base_url": "dev", "client_token": TOKEN}, f"{PREFIX}LOYALTY_CLUB_SLUG"),
    ],
)
def test_half_an_account_is_refused_with_the_way_out(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        PlacewiseSettings.model_validate(values)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"base_url": "api.mpc.placewise.com"}, "http or https"),
        ({"base_url": "ftp://x"}, "http or https"),
        ({"base_url": "https://x:99999"}, "http or https"),
        ({"base_url": "https://me:hunter2@x"}, "CLIENT_TOKEN"),
        ({"base_url": "https://x/v1/ml/general/generate_image"}, "is added"),
        ({"base_url": "https://x/v1"}, "is added"),
        ({"base_url": "https://x?y=1"}, "is added"),
        ({"client_token": "Bearer sk-secret"}, "leave 'Bearer' out"),
        ({"user_token": "sk-secret\nX: y"}, "printable ASCII"),
        ({"loyalty_club_slug": "inf\r\nX: y"}, "printable ASCII"),
        ({"user_agent": " darkroom"}, "white space"),
        ({"callback_header": "X Notify"}, "a name of letters"),
        ({"encoding": "xml"}, "multipart"),
        ({"results": "email"}, "poll"),
        ({"results": "poll"}, "POLL_URL_TEMPLATE"),
        ({"results": "poll", "poll_url_template": "/v1/jobs/{id}"}, "IMAGE_POINTER"),
        ({"results": "push"}, "CALLBACK_HEADER"),
        ({"poll_url_template": "/v1/jobs"}, "{id}"),
        ({"poll_url_template": "/v1/jobs/{id}/{x}"}, "{id}"),
        ({"poll_url_template": "v1/jobs/{id}"}, "begins with a slash"),
        ({"poll_url_template": "https://me:hunter2@x/{id}"}, "without credentials"),
        ({"status_pointer": "job.state", "done_values": "x"}, "/job/state"),
        ({"image_pointer": "/a~b"}, "~0"),
        ({"status_pointer": "/state"}, "DONE_VALUES"),
        ({"done_values": "finished"}, "STATUS_POINTER"),
        ({"status_pointer": "/s", "done_values": "a,b", "failed_values": "b"}, "both list b"),
        ({"done_values": '["a"'}, "JSON list"),
        ({"poll_interval_seconds": 0}, "greater than 0"),
        ({"deadline_seconds": 0}, "greater than 0"),
        ({"creativity_max": -1}, "CREATIVITY_MAX"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**values)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_channel_of_an_account_is_only_what_is_configured() -> None:
    assert settings().channel() == NoChannel()
    assert settings(results="none").channel() == NoChannel()
    poll = settings(**{**POLL, "poll_interval_seconds": None, "doubt_seconds": None}).channel()
    assert isinstance(poll, PollChannel)
    assert (poll.url, poll.interval, poll.deadline, poll.doubt) == ("/v1/jobs/{id}", 5, 5, 300)
    assert settings(**{**POLL, "doubt_seconds": 7}).channel() == replace(poll, interval=0.005, doubt=7)
    assert poll.shape.done == ("finished", "ready")
    push = settings(**PUSH).channel()
    assert isinstance(push, PushChannel)
    assert (push.header, push.field) == ("X-Notify", None)


def test_the_sandbox_has_a_channel_of_its_own_whatever_is_configured() -> None:
    values = {**POLL, "poll_url_template": "https://elsewhere.example/{id}"}
    assumed = PlacewiseSettings.model_validate(values).channel()
    assert isinstance(assumed, PollChannel)
    assert assumed.url.startswith("/v1/ml/general/")
    assert (assumed.interval, assumed.doubt) == (POLL["poll_interval_seconds"], 0)
    usual = PlacewiseSettings().channel()
    assert isinstance(usual, PollChannel)
    assert (usual.interval, usual.doubt) == (0.5, 3)
    push = PlacewiseSettings(results=ResultChannel.PUSH).channel()
    assert isinstance(push, PushChannel)
    assert push.header == "X-Sim-Callback-URL"
    assert PlacewiseSettings(results=ResultChannel.NONE).channel() == NoChannel()


def test_the_address_of_a_task_is_safe_and_keeps_its_base() -> None:
    poll = settings(**POLL).channel()
    assert isinstance(poll, PollChannel)
    assert poll.url_of("41", "http://x/base/") == "http://x/base/v1/jobs/41"
    assert poll.url_of("../a?b#c", "http://x") == "http://x/v1/jobs/..%2Fa%3Fb%23c"
    elsewhere = settings(**{**POLL, "poll_url_template": "https://y/files?ids[]={id}"}).channel()
    assert isinstance(elsewhere, PollChannel)
    assert elsewhere.url_of("41", "http://x") == "https://y/files?ids[]=41"


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", {"a": [{"b/c": 1, "~": 2}], "": 3}),
        ("/a/0/b~1c", 1),
        ("/a/0/~0", 2),
        ("/", 3),
        ("/a/1", None),
        ("/a/-1", None),
        ("/a/00", None),
        ("/a/0/b~1c/x", None),
        ("/nowhere", None),
    ],
)
def test_a_pointer_leads_where_rfc_6901_says(pointer: str, value: object) -> None:
    assert value_at({"a": [{"b/c": 1, "~": 2}], "": 3}, check_pointer(pointer)) == value


def test_every_setting_is_described() -> None:
    for name, field in PlacewiseSettings.model_fields.items():
        assert field.description, name
