"""The fault script: where it comes from, and what it says when it is wrong."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from providers.sandbox.script import Script, ScriptError, ScriptQueue, scripted

NONE = Headers()


def test_without_a_script_the_answer_is_normal() -> None:
    assert scripted(NONE, "A fox", ScriptQueue()) == (Script(), "A fox")


def test_a_directive_is_followed_and_not_drawn() -> None:
    script, words = scripted(NONE, "A fox [[sandbox: status=429 retry_after=0.5 no_final]] in snow", ScriptQueue())
    assert script == Script(status=429, retry_after=0.5, no_final=True)
    assert words == "A fox in snow"


@pytest.mark.parametrize(
    ("directive", "expected"),
    [
        ("[[sandbox:message='Not today, thanks' status=503]]", Script(message="Not today, thanks", status=503)),
        ("[[ Sandbox : duplicate ]]", Script(duplicate=True)),
        ("[[sandbox: duplicate=false]]", Script()),
        ("[[sandbox: code=42]]", Script(code="42")),
        ("[[sandbox: refuse=input categories=sexual,minors]]", Script(refuse="input", categories=("sexual", "minors"))),
        ('[[sandbox: {"cut_after": 2,\n"cut_inside": true}]]', Script(cut_after=2, cut_inside=True)),
        ("[[sandbox:]]", Script()),
    ],
)
def test_directives_can_be_written_as_pairs_or_as_json(directive: str, expected: Script) -> None:
    script, words = scripted(NONE, directive, ScriptQueue())
    assert script.model_dump() == expected.model_dump()
    assert words == ""


def test_the_header_wins_over_the_directive_and_leaves_the_queue_alone() -> None:
    queue = ScriptQueue()
    queue.replace(b'[{"status": 500}]')
    header = Headers({"x-sandbox-script": '{"status": 503}'})
    script, words = scripted(header, "A fox [[sandbox: status=429]]", queue)
    assert (script.status, words) == (503, "A fox")
    assert queue.waiting() == [{"status": 500}]


def test_the_queue_serves_each_script_once_in_order() -> None:
    queue = ScriptQueue()
    queue.replace(b'[{"status": 500}, {}, {"no_final": true}]')
    taken = [scripted(NONE, "A fox", queue)[0] for _ in range(4)]
    assert taken == [Script(status=500), Script(), Script(no_final=True), Script()]


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("[[sandbox: statsu=429]]", "statsu"),
        ("[[sandbox: status=200]]", "greater than or equal to 400"),
        ("[[sandbox: latency=soon]]", "latency"),
        ("[[sandbox: latency=NaN]]", "latency"),
        ("[[sandbox: message='open]]", "No closing quotation"),
        ("[[sandbox: {not json}]]", "not JSON"),
        ("A fox [[sandbox: status=429", "not closed"),
        ("[[sandbox: done]] and [[sandbox: url]]", "2 directives"),
    ],
)
def test_a_malformed_directive_explains_itself(prompt: str, says: str) -> None:
    with pytest.raises(ScriptError, match="in the prompt") as caught:
        scripted(NONE, prompt, ScriptQueue())
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "7", "nonsense", '{"status": "many"}'])
def test_a_malformed_header_explains_itself(text: str) -> None:
    with pytest.raises(ScriptError, match="in the header X-Sandbox-Script"):
        scripted(Headers({"x-sandbox-script": text}), "A fox", ScriptQueue())


@pytest.mark.parametrize("body", [b"", b"{}", b'[{"status": 1}]', b"[7]"])
def test_a_malformed_queue_explains_itself_and_changes_nothing(body: bytes) -> None:
    queue = ScriptQueue()
    queue.replace(b'[{"status": 500}]')
    with pytest.raises(ScriptError, match="in the request body"):
        queue.replace(body)
    assert queue.waiting() == [{"status": 500}]


def test_every_knob_is_described() -> None:
    assert [name for name, field in Script.model_fields.items() if not field.description] == []
