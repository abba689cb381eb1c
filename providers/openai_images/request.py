"""The parameters of `POST …/images/generations`: the one place they are defined.

From this class come the GraphQL input, the form-ready catalogue, the validation and the body sent upstream.
Lists that vendors extend weekly (model, size, quality, output format) stay open strings here; `families` knows
what each model takes. Source: contract openai-images §2, and the vendor page it started from.
"""

from __future__ import annotations

from typing import Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from providers.described import DescribedEnum
from providers.openai_images.families import (
    family_of,
    known_formats,
    known_models,
    known_qualities,
    known_sizes,
)
from providers.openai_images.rules import Problem, problems

_R = TypeVar("_R", bound=BaseModel)

_COMPRESSED = ("jpeg", "webp")


class OpenAIImagesBackground(DescribedEnum):
    """What is behind the subject."""

    AUTO = "auto", "The model decides."
    OPAQUE = "opaque", "A filled background."
    TRANSPARENT = "transparent", "No background; needs output format png or webp."


class OpenAIImagesModeration(DescribedEnum):
    """How strictly the vendor's safety system judges prompt and picture."""

    AUTO = "auto", "The vendor's standard filtering."
    LOW = "low", "Less restrictive filtering."


class OpenAIImagesResponseFormat(DescribedEnum):
    """How a picture comes back from the vendor. Darkroom stores the file either way."""

    URL = "url", "As a link that expires after 60 minutes; Darkroom fetches it at once."
    B64_JSON = "b64_json", "Inside the answer, in base64."


class OpenAIImagesStyle(DescribedEnum):
    """The look of a dall-e-3 picture."""

    VIVID = "vivid", "Hyper-real and dramatic."
    NATURAL = "natural", "Closer to a photograph, less hyper-real."


class OpenAIImagesRequest(BaseModel):
    """A request to an OpenAI-style images API. Null means: leave it out, the vendor's default applies."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt: str = Field(min_length=1, max_length=100_000)
    """What to draw. 1–32,000 characters for GPT image models, 4,000 for dall-e-3, 1,000 for dall-e-2; for a model
    Darkroom does not know, up to 100,000 and the vendor judges."""

    model: str = Field(min_length=1, max_length=256, examples=known_models())
    """The model, as the account names it: `gpt-image-2`, or behind a gateway `openai-main/gpt-image-2`. The rules of
    its family are found without the account prefix; of a model Darkroom does not know, the vendor is the judge."""

    n: int | None = Field(default=None, ge=1, le=10)
    """How many pictures: 1–10, default 1. dall-e-3 and svg output make only 1."""

    size: str | None = Field(default=None, min_length=1, max_length=32, examples=known_sizes())
    """Width and height in pixels, such as `1024x1024`, or `auto`. Default: `auto`, for dall-e `1024x1024`. gpt-image-2
    and newer take any WIDTHxHEIGHT: sides divisible by 16 and at most 3840, ratio up to 3:1, 655,360 to
    8,294,400 pixels."""

    quality: str | None = Field(default=None, min_length=1, max_length=64, examples=known_qualities())
    """How much work goes into the picture: `low`, `medium`, `high` or `auto` (default); from gpt-image-2.5 on also
    `xhigh` and `max`; `standard` or `hd` for dall-e-3. Decides most of the price."""

    background: OpenAIImagesBackground | None = None
    """What is behind the subject; default AUTO. GPT image models only. TRANSPARENT needs png or webp, and for
    gpt-image-2 an account with preview access."""

    output_format: str | None = Field(default=None, min_length=1, max_length=32, examples=known_formats())
    """The file format: `png` (default), `jpeg` or `webp`; `gif` and `svg` where the account has access. GPT image
    models only. gif and svg cannot be streamed, and svg makes one picture at a time."""

    output_compression: int | None = Field(default=None, ge=0, le=100)
    """Compression level in percent, 0–100, default 100. GPT image models only, and only for jpeg and webp; with png
    only 100 is accepted."""

    moderation: OpenAIImagesModeration | None = None
    """How strictly the vendor filters; default AUTO. GPT image models only."""

    partial_images: int | None = Field(default=None, ge=0)
    """How many earlier stages of each picture to receive while it develops: 0–3, default 0. GPT image models only;
    fewer may arrive, and each costs extra output tokens. Needs a stream."""

    stream: bool | None = None
    """Whether the vendor streams its answer. Leave it null: Darkroom then streams when partial images are wanted and
    the model can. True or false forces it; true needs a GPT image model. Task events are live either way."""

    response_format: OpenAIImagesResponseFormat | None = None
    """How the vendor hands over the picture; default URL. dall-e only: GPT image models refuse the parameter. Darkroom
    stores the file either way."""

    style: OpenAIImagesStyle | None = None
    """The look of the picture; default VIVID. dall-e-3 only."""

    user: str | None = Field(default=None, max_length=512)
    """Your own identifier of the end user, for the vendor's abuse detection; up to 512 characters. Use a pseudonym."""

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Pydantic's own findings and the family's in one error, so that nobody has to fix them one by one."""
        if not isinstance(data, dict):
            return handler(data)
        try:
            request = handler(data)
        except ValidationError as exc:
            own = exc.errors(include_url=False)
            bad = {str(error["loc"][0]) for error in own}
            request = _sound_part(data, bad, handler)
            # Of a prompt that is too long for anybody, the family knows better how long it may be.
            found = [each for each in problems(request) if each.field not in bad or each.code == "prompt_too_long"]
            better = {each.field for each in found}
            lines = [_own_line(error) for error in own if error["loc"][0] not in better]
            raise ValidationError.from_exception_data(
                cls.__name__, [*lines, *(_line(problem, request) for problem in found)]
            ) from exc
        found = problems(request)
        if found:
            raise ValidationError.from_exception_data(cls.__name__, [_line(problem, request) for problem in found])
        return request

    def streams(self) -> bool:
        """Whether the upstream is asked for a stream."""
        if self.stream is not None:
            return self.stream
        family = family_of(self.model)
        return bool(self.partial_images) and (family is None or family.streams)

    def body(self) -> dict[str, JsonValue]:
        """What is sent upstream: null is left out, and so is what `dropped` names."""
        body: dict[str, JsonValue] = self.model_dump(mode="json", exclude_none=True, exclude=set(self.dropped()))
        if self.streams():
            body["stream"] = True
        else:
            body.pop("stream", None)
            body.pop("partial_images", None)
        return body

    def dropped(self) -> dict[str, str]:
        """Parameters that were given and are not sent, each with the reason; none of them changes the picture."""
        family = family_of(self.model)
        if family is None:
            return {}
        reasons: dict[str, str] = {}
        if self.quality is not None and not family.sends_quality:
            reasons["quality"] = f"{family.name} refuses the parameter quality; {self.quality} is what it makes anyway."
        output_format = self.output_format or next(iter(family.formats), None)
        if self.output_compression is not None and output_format not in _COMPRESSED:
            reasons["output_compression"] = f"{output_format} is never compressed further; the parameter was not sent."
        if self.partial_images == 0 and not family.streams:
            reasons["partial_images"] = f"{family.name} has no partial images; the parameter was not sent."
        return reasons


def _sound_part(data: dict[str, object], bad: set[str], handler: ModelWrapValidatorHandler[_R]) -> _R:
    """The request without what is wrong in itself, so that the rules between the fields can still judge the rest."""
    request = handler(
        {
            "prompt": "-",
            "model": "-",
            **{name: value for name, value in data.items() if name not in bad},
            # A format that is wrong is not the default one: nothing that depends on it can be judged.
            **({"output_format": "-"} if "output_format" in bad else {}),
        }
    )
    prompt = data.get("prompt")
    return request.model_copy(update={"prompt": prompt}) if isinstance(prompt, str) else request


def _own_line(error: ErrorDetails) -> InitErrorDetails:
    return InitErrorDetails(type=error["type"], loc=error["loc"], input=error["input"], ctx=error.get("ctx", {}))


def _line(problem: Problem, request: OpenAIImagesRequest) -> InitErrorDetails:
    # The message is a value, not a template: a brace in what somebody typed must stay a brace.
    context = {"allowed": list(problem.allowed), "message": problem.message}
    return InitErrorDetails(
        type=PydanticCustomError(problem.code, "{message}", context),
        loc=(problem.field,),
        input=getattr(request, problem.field),
    )
