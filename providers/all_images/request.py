"""The parameters of an All-Images.ai generation ("print"): the one place they are defined.

From this class come the GraphQL input, the form-ready catalogue, the validation and the body sent upstream. Names are
the vendor's own. Its list of `{name, value}` pairs (`params`) is flattened into fields with types. Sources: contract
all-images §2.1 (top level), §2.2 (`params`), §6 (contradictions), and the vendor page it started from.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from providers.all_images.domains import (
    AllImagesFormat,
    AllImagesMode,
    AllImagesProcessMode,
    AllImagesTemplatePrompt,
    AllImagesTime,
    AllImagesWeather,
)
from providers.all_images.rules import REFERENCE_KEY, Problem, own_tag, own_word, problems, reference_tag

PARAMS = MappingProxyType(
    {
        "template_prompt": "templatePrompt",
        "format": "format",
        "weather": "weather",
        "time": "time",
        "camera": "camera",
        "chaos": "chaos",
        "stylize": "stylize",
        "interdiction": "interdiction",
        "sujet_mode": "sujetMode",
        "angle": "angle",
        "photographe": "photographe",
        "version": "version",
        "from_image_url": "fromImageUrl",
    }
)
"""The fields that travel in `params`, in the order they are sent, and what they are called there."""

_Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(own_word)]
_Tag = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(own_tag)]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class AllImagesRequest(BaseModel):
    """A request to All-Images.ai, which makes four pictures of it. Null means: leave it out, the vendor decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mode: AllImagesMode
    """How the prompt is read. Everything from `optimizePrompt` and `templatePrompt` to `fromImageUrl` is for SIMPLE
    only."""

    name: str = Field(min_length=1, max_length=255)
    """A label for the generation in the vendor's own lists, 1–255 characters."""

    prompt: str = Field(min_length=1, max_length=4096)
    """What to draw, 1–4,096 characters. In mode SIMPLE plain text, without Midjourney parameters such as `--ar 3:2`;
    in mode ADVANCED a raw Midjourney "imagine" prompt."""

    optimize_prompt: bool | None = None
    """Whether the vendor rewrites the prompt before it draws: "a dog" becomes a sentence about a small brown dog on
    fresh leaves. Mode SIMPLE only; default no."""

    additional_prompt: str | None = Field(default=None, min_length=1, max_length=1024)
    """Text put in front of the prompt and never rewritten, up to 1,024 characters."""

    template_prompt: AllImagesTemplatePrompt | None = None
    """The photo type; default REALISTIC_QUALITY. Mode SIMPLE only."""

    format: AllImagesFormat | None = None
    """The shape of the picture, width to height. Mode SIMPLE only."""

    weather: AllImagesWeather | None = None
    """The weather in the picture. Mode SIMPLE only."""

    time: AllImagesTime | None = None
    """The time of day, which changes the colours. Mode SIMPLE only."""

    camera: _Text | None = None
    """A camera to take the picture with, in your own words, such as `GoPro`. Mode SIMPLE only."""

    chaos: int | None = Field(default=None, ge=0, le=100)
    """How much the four pictures differ, 0–100: high values give unusual, unexpected compositions, low ones reliable,
    repeatable results. Mode SIMPLE only."""

    stylize: int | None = Field(default=None, ge=0, le=1000)
    """How artistic the picture is, 0–1,000: low values stay close to the prompt. The vendor's prose says 0–100 and its
    code 0–1,000; values above 100 are sent, with a notice. Mode SIMPLE only."""

    interdiction: Annotated[list[_Word], Field(max_length=100)] | None = None
    """What must not be in the picture: a list of words or phrases without commas, such as `hands`. Mode SIMPLE
    only."""

    sujet_mode: _Text | None = None
    """The vendor's parameter `sujetMode` (subject mode); it publishes no list of values. Mode SIMPLE only."""

    angle: _Text | None = None
    """The vendor's parameter `angle` (point of view); it publishes no list of values. Mode SIMPLE only."""

    photographe: _Text | None = None
    """The vendor's parameter `photographe` (in the manner of a photographer); it publishes no list of values. Mode
    SIMPLE only."""

    version: _Text | None = None
    """The vendor's parameter `version` (presumably of Midjourney); it publishes no list of values. Mode SIMPLE only."""

    from_image_url: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
    """The vendor's parameter `fromImageUrl`: presumably the public address of a picture to start from. Mode SIMPLE
    only."""

    process_mode: AllImagesProcessMode | None = None
    """How quickly it is made; default FAST. Only accounts with the "Dedicated" offer have the choice, and FAST uses up
    their quota of fast generations."""

    tags: Annotated[list[_Tag], Field(max_length=50)] | None = None
    """Up to 50 tags to filter the vendor's own list by. Darkroom adds one of its own to find the generation again."""

    meta_data: Annotated[dict[str, str], Field(max_length=50)] | None = None
    """Names and texts of your own that the vendor keeps with the generation. Darkroom adds `darkroom_reference`."""

    purchase: bool = False
    """Whether to buy each finished picture at once, which costs one credit apiece. Otherwise you get previews, and can
    buy the ones you like later. Pictures the vendor marks as free come in full either way."""

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Pydantic's own findings and the rules' in one error, so that nobody has to fix them one by one."""
        if not isinstance(data, dict):
            return handler(data)
        lines: list[InitErrorDetails] = []
        cause: ValidationError | None = None
        try:
            request = handler(data)
        except ValidationError as exc:
            cause = exc
            own = exc.errors(include_url=False)
            lines = [_own_line(error) for error in own]
            bad = {str(error["loc"][0]) for error in own}
            sound = {name: value for name, value in data.items() if name not in bad}
            # Without a mode nothing that depends on it can be judged: the prompt then stands for itself.
            request = handler({"mode": AllImagesMode.SIMPLE, "name": "-", "prompt": "-", **sound})
            if isinstance(prompt := data.get("prompt"), str):
                request = request.model_copy(update={"prompt": prompt})
            found = [] if "mode" in bad else problems(request)
        else:
            found = problems(request)
        if lines or found:
            lines += [_line(problem, request) for problem in found]
            raise ValidationError.from_exception_data(cls.__name__, lines) from cause
        return request

    def body(self, reference: str) -> dict[str, JsonValue]:
        """What is sent upstream for the task `reference`; null is left out."""
        given = self.model_dump(mode="json", exclude_none=True)
        body: dict[str, JsonValue] = {"name": given["name"], "mode": given["mode"], "prompt": given["prompt"]}
        for field, wire in (
            ("additional_prompt", "additionalPrompt"),
            ("optimize_prompt", "optimizePrompt"),
            ("process_mode", "processMode"),
        ):
            if field in given:
                body[wire] = given[field]
        params: list[JsonValue] = [
            {"name": wire, "value": _text(given[field])} for field, wire in PARAMS.items() if given.get(field, []) != []
        ]
        if params:
            body["params"] = params
        body["tags"] = [*given.get("tags", []), reference_tag(reference)]
        body["metaData"] = {**given.get("meta_data", {}), REFERENCE_KEY: reference}
        return body

    def replacement(self, reference: str | None) -> dict[str, JsonValue]:
        """The same to put in the place of an earlier request: what is left out here must not stay as it was there.

        Without a reference the tags and the metadata are left alone, because the vendor's copy holds it.
        """
        body: dict[str, JsonValue] = {
            "additionalPrompt": "",
            "optimizePrompt": False,
            "params": [],
            **self.body(reference or ""),
        }
        if reference is None:
            del body["tags"], body["metaData"]
        return body


def _text(value: JsonValue) -> str:
    """The value of a parameter: always a string, numbers too (contract all-images §2.1)."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _own_line(error: ErrorDetails) -> InitErrorDetails:
    context = error.get("ctx", {})
    kind = error["type"]
    if "message" in context:  # one of ours, from a validator of a single value
        return InitErrorDetails(
            type=PydanticCustomError(kind, "{message}", context), loc=error["loc"], input=error["input"]
        )
    return InitErrorDetails(type=kind, loc=error["loc"], input=error["input"], ctx=context)


def _line(problem: Problem, request: AllImagesRequest) -> InitErrorDetails:
    # The message is a value, not a template: a brace in what somebody typed must stay a brace.
    context = {"allowed": list(problem.allowed), "message": problem.message}
    return InitErrorDetails(
        type=PydanticCustomError(problem.code, "{message}", context),
        loc=(problem.field,),
        input=getattr(request, problem.field),
    )
