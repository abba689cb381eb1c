"""The fault script: what a simulated API should do other than answer nicely.

One request takes its script from the first of these that has one:

1. the HTTP header `X-Sandbox-Script`, a JSON object such as `{"status": 429, "retry_after": 1}`;
2. a directive in the prompt, `[[sandbox: status=429 retry_after=1]]`, which is not drawn; a knob that is
   yes or no may stand alone, `[[sandbox: no_final]]`, and JSON works too, `[[sandbox: {"no_final": true}]]`;
3. the queue that `PUT /sandbox/<provider>/script` sets, a JSON list with one script for each next request.
"""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, field_validator

HEADER = "X-Sandbox-Script"
_DIRECTIVE = re.compile(r"\s*\[\[\s*sandbox\s*:(?P<knobs>.*?)\]\]", re.IGNORECASE | re.DOTALL)
_UNCLOSED = re.compile(r"\[\[\s*sandbox\s*:", re.IGNORECASE)
_MEBIBYTE = 1024 * 1024


class Script(BaseModel):
    """What to do to one request. Every knob is optional; an empty script answers normally.

    A frame is one server-sent event of a streamed answer; in a plain JSON answer the knobs that count frames
    count pictures. Times are seconds.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )

    # Time
    latency: float = Field(default=0, ge=0, le=600)
    """Extra wait before the first byte of the answer, of an error as well."""
    pause: float | None = Field(default=None, ge=0, le=600)
    """Wait before each frame, instead of the sandbox's own pace."""

    # Refusals: nothing is charged
    status: int | None = Field(default=None, ge=400, le=599)
    """Fail with this HTTP status, before the request is even looked at."""
    code: str | None = Field(default=None, max_length=200)
    """The error code to fail with, here or in mid-stream. Without one, the usual code for the status."""
    message: str | None = Field(default=None, max_length=10_000)
    """The error message to fail with, here or in mid-stream."""
    retry_after: float | None = Field(default=None, ge=0, le=86_400)
    """The Retry-After header of the failure."""
    should_retry: bool | None = None
    """The x-should-retry header of the failure."""
    refuse: Literal["input", "output"] | None = None
    """The safety system refuses the prompt (input) or the picture made from it (output)."""
    categories: tuple[str, ...] = ("violence",)
    """What the safety system found, for `refuse` and for an `error_after` with code moderation_blocked. In a
    directive: `categories=violence,sexual`."""
    error_shape: Literal["openai", "truefoundry", "html", "empty"] = "openai"
    """How the body of a failure is shaped: the vendor's, the gateway's, a proxy's web page, or nothing at all."""

    # Lost connections
    lose: Literal["request", "response"] | None = None
    """Close the connection without a word: before the request is accepted (not charged), or after (charged)."""
    cut_after: int | None = Field(default=None, ge=0)
    """Close the connection after this many frames."""
    cut_inside: bool = False
    """Make that cut in the middle of the next frame instead of between two; alone, in the first frame."""

    # Odd answers
    partials: int | None = Field(default=None, ge=0)
    """Send at most this many partial images per picture, whatever was asked for."""
    final_first: bool = False
    """Send the final pictures before the partial ones."""
    sequential: bool = False
    """Stream several pictures one after the other instead of all at once."""
    no_final: bool = False
    """End the stream in good order, but without the final picture."""
    error_after: int | None = Field(default=None, ge=0)
    """Send an error event after this many frames and end the stream (streams only). Charged: it had been accepted."""
    duplicate: bool = False
    """Send every frame twice."""
    truncate: int | None = Field(default=None, ge=0)
    """Frame (counted from 0) whose base64 breaks off in the middle, where no base64 can end."""
    truncate_decodable: bool = False
    """Let the truncated base64 end where it still decodes, so that it is the picture file that breaks off."""
    answer_json: bool = False
    """Answer with JSON where a stream was asked for."""
    url: bool = False
    """Send a link where the picture itself belongs."""
    expired: bool = False
    """Make the links of this answer dead from the start."""
    done: bool = False
    """End the stream with `data: [DONE]`."""
    keepalive: bool = False
    """Put a comment line before each frame, as proxies do to keep a connection open."""
    crlf: bool = False
    """End the lines of the stream with carriage return and line feed."""
    extra_fields: bool = False
    """Add fields nobody has documented to every object."""
    omit_fields: bool = False
    """Leave out every field that clients can do without."""
    chunk: int | None = Field(default=None, ge=1, le=64 * _MEBIBYTE)
    """Send the body in pieces of this many bytes."""
    padding: int = Field(default=0, ge=0, le=128 * _MEBIBYTE)
    """Extra bytes in every frame, to make it huge."""

    # The picture
    seed: int = Field(default=0, ge=0)
    """Draw another picture for the same prompt."""

    @field_validator("categories", mode="before")
    @classmethod
    def _from_commas(cls, value: object) -> object:
        return tuple(value.split(",")) if isinstance(value, str) else value


class ScriptError(ValueError):
    """A script that cannot be followed; the text says what is wrong and lists what there is."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"The sandbox script in {source} is not valid: {reason}")
        self.source = source


_SCRIPTS = TypeAdapter(list[Script])


class ScriptQueue:
    """Scripts waiting for the next requests of one simulated API."""

    def __init__(self) -> None:
        self._waiting: deque[Script] = deque()

    def replace(self, body: bytes) -> None:
        """Forget what was waiting and wait with this instead: a JSON list of scripts."""
        try:
            scripts = _SCRIPTS.validate_python(orjson.loads(body))
        except orjson.JSONDecodeError as exc:
            raise ScriptError("the request body", f"not JSON ({exc}); expected a list of scripts") from exc
        except ValidationError as exc:
            raise ScriptError("the request body", _explained(exc)) from exc
        self._waiting = deque(scripts)

    def waiting(self) -> list[dict[str, JsonValue]]:
        """What is still waiting, next one first, each with only the knobs that were set."""
        return [script.model_dump(mode="json", exclude_unset=True) for script in self._waiting]

    def take(self) -> Script | None:
        """The script for the request at hand, if one is waiting."""
        return self._waiting.popleft() if self._waiting else None


def scripted(headers: Mapping[str, str], prompt: str, queue: ScriptQueue) -> tuple[Script, str]:
    """The script for a request, and its prompt without directives. A malformed script raises `ScriptError`."""
    directives = [match["knobs"].strip() for match in _DIRECTIVE.finditer(prompt)]
    words = _DIRECTIVE.sub("", prompt).strip() if directives else prompt
    header = headers.get(HEADER)
    if header is not None:
        return _from_json(f"the header {HEADER}", header), words
    if _UNCLOSED.search(words):
        raise ScriptError("the prompt", "the directive is not closed; write [[sandbox: status=429]]")
    if len(directives) > 1:
        raise ScriptError("the prompt", f"there are {len(directives)} directives; put everything into one")
    if directives:
        return _from_directive(directives[0]), words
    return queue.take() or Script(), words


def _from_directive(knobs: str) -> Script:
    if knobs.startswith("{"):
        return _from_json("the prompt", knobs)
    try:
        pairs = [word.partition("=") for word in shlex.split(knobs)]
    except ValueError as exc:
        raise ScriptError("the prompt", f"{exc} in {knobs!r}; write knob=value, with quotes around spaces") from exc
    return _checked("the prompt", {name: _value(text) if equals else True for name, equals, text in pairs})


def _value(text: str) -> JsonValue:
    """A number, a boolean or a list where it reads like one, else the text itself."""
    try:
        value: JsonValue = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value


def _from_json(source: str, text: str) -> Script:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ScriptError(source, f"not JSON ({exc}): {text[:200]!r}") from exc
    return _checked(source, value)


def _checked(source: str, value: object) -> Script:
    try:
        return Script.model_validate(value)
    except ValidationError as exc:
        raise ScriptError(source, _explained(exc)) from exc


def _explained(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "script"
        problems.append(f"{where}: {problem['msg']} (got {problem['input']!r:.80})")
    return f"{'; '.join(problems)}. Knobs: {_listed(sorted(Script.model_fields))}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
