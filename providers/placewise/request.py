"""The parameters of Placewise's `generate_image`: the one place they are defined.

From this class come the GraphQL input, the form-ready catalogue, the validation and the fields sent upstream.
Source: contract placewise §2, and the vendor page it started from. What that page leaves open is judged by
`rules`, which can be configured.
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
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from providers.described import DescribedEnum
from providers.placewise.rules import PlacewiseRules, Problem, problems, rules_in_force
from providers.scalars import BigInt

_R = TypeVar("_R", bound=BaseModel)


class PlacewiseModelType(DescribedEnum):
    """How large a model draws."""

    SMALL = "small", "The fastest and cheapest. Makes thumbnail and medium pictures."
    MEDIUM = "medium", "Better, slower, dearer; listens to creativity."
    LARGE = "large", "The best, the slowest and the dearest; listens to creativity and photorealistic."


class PlacewiseAspectRatio(DescribedEnum):
    """The shape of the picture, width to height."""

    SQUARE_1_1 = "1:1", "Square."
    PORTRAIT_2_3 = "2:3", "Upright, as a classic photograph."
    LANDSCAPE_3_2 = "3:2", "Lying, as a classic photograph."
    PORTRAIT_3_4 = "3:4", "Upright, as a tablet."
    LANDSCAPE_4_3 = "4:3", "Lying, as a tablet or an old television."
    PORTRAIT_4_5 = "4:5", "Upright, slightly."
    LANDSCAPE_5_4 = "5:4", "Lying, slightly."
    LANDSCAPE_16_9 = "16:9", "Lying, as a widescreen."
    PORTRAIT_9_16 = "9:16", "Upright, as a phone."


class PlacewiseImageSize(DescribedEnum):
    """How large the picture is. The vendor does not say which side the number measures; most likely the longer."""

    THUMBNAIL = "thumbnail", "256 pixels."
    SMALL = "small", "512 pixels. Not with the small model."
    MEDIUM = "medium", "1024 pixels."
    LARGE = "large", "1440 pixels. Not with the small model."


class PlacewiseRequest(BaseModel):
    """A request to Placewise's image generation. Null means: leave it out, the vendor's default applies."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt: str = Field(strict=True, min_length=1)
    """What to draw. How long it may be is not documented; the vendor judges, unless this server sets a limit."""

    model_type: PlacewiseModelType | None = None
    """How large a model draws; default SMALL. Larger models draw better, take longer and cost more."""

    aspect_ratio: PlacewiseAspectRatio | None = None
    """The shape of the picture; default SQUARE_1_1."""

    image_size: PlacewiseImageSize | None = None
    """How large the picture is; default THUMBNAIL. The small model makes only THUMBNAIL and MEDIUM."""

    creativity: int | None = Field(default=None, strict=True)
    """How freely the prompt is read; default 2. Medium and large models only: the small one ignores it. The vendor
    documents no range; at least 0 is assumed."""

    photorealistic: bool | None = Field(default=None, strict=True)
    """Whether the picture should look like a photograph; default false. Large model only: the others ignore it."""

    random_seed: BigInt | None = Field(default=None, strict=True)
    """The same seed with the same parameters draws the same picture again; default: another one each time. The vendor
    documents no range: whatever fits into 64 bits is sent, outside 0 to 2,147,483,647 with a notice."""

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(
        cls, data: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """Pydantic's own findings and those of the rules in one error, so that nobody has to fix them one by one.

        The rules are those this process was started with, or the `PlacewiseRules` given as validation context.
        """
        if not isinstance(data, dict):
            return handler(data)
        rules = info.context if isinstance(info.context, PlacewiseRules) else rules_in_force()
        try:
            request = handler(data)
        except ValidationError as exc:
            own = exc.errors(include_url=False)
            sound = handler(_sound_part(data, {str(error["loc"][0]) for error in own}))
            lines = [*map(_own_line, own), *(_line(each, sound) for each in problems(sound, rules))]
            raise ValidationError.from_exception_data(cls.__name__, lines) from exc
        found = list(problems(request, rules))
        if found:
            raise ValidationError.from_exception_data(cls.__name__, [_line(each, request) for each in found])
        return request

    @property
    def small_model(self) -> bool:
        """Whether the small model draws: it does so unless another one is asked for."""
        return self.model_type in (None, PlacewiseModelType.SMALL)

    def fields(self) -> dict[str, JsonValue]:
        """What is sent upstream, with real types: null is left out, and so is what would have no effect."""
        ignored = set(self.dropped())
        if self.model_type is not PlacewiseModelType.LARGE:
            ignored.add("photorealistic")  # also where it is false, which nobody needs to be told about
        sent: dict[str, JsonValue] = self.model_dump(mode="json", exclude_none=True, exclude=ignored)
        return sent

    def dropped(self) -> dict[str, str]:
        """Parameters that were given and have no effect, each with the reason. They are not sent."""
        model = self.model_type or PlacewiseModelType.SMALL
        reasons: dict[str, str] = {}
        if self.creativity is not None and self.small_model:
            reasons["creativity"] = (
                f"The small model ignores creativity: {self.creativity} was not sent; use model_type medium or large."
            )
        if self.photorealistic and model is not PlacewiseModelType.LARGE:
            reasons["photorealistic"] = (
                f"The {model} model ignores photorealistic: it was not sent; use model_type large."
            )
        return reasons

    def doubtful(self, rules: PlacewiseRules) -> dict[str, str]:
        """Parameters that are sent although nobody knows whether the vendor takes them, each with the reason."""
        least, most = rules.random_seed_min, rules.random_seed_max
        if self.random_seed is None or least <= self.random_seed <= most:
            return {}
        return {
            "random_seed": f"The seed {self.random_seed} is outside {least} to {most}, the range that is assumed to "
            "work. It was sent as it is; the vendor may refuse it or shorten it."
        }


def _sound_part(data: dict[str, object], bad: set[str]) -> dict[str, object]:
    """The request without what is wrong in itself, so that the rules between the fields can still judge the rest."""
    if "model_type" in bad:
        bad = {*bad, "image_size"}  # a model that is wrong is not the small one: its sizes cannot be judged
    return {"prompt": "-", **{name: value for name, value in data.items() if name not in bad}}


def _own_line(error: ErrorDetails) -> InitErrorDetails:
    return InitErrorDetails(type=error["type"], loc=error["loc"], input=error["input"], ctx=error.get("ctx", {}))


def _line(problem: Problem, request: PlacewiseRequest) -> InitErrorDetails:
    # The message is a value, not a template: a brace in what somebody typed must stay a brace.
    context = {"allowed": list(problem.allowed), "message": problem.message}
    return InitErrorDetails(
        type=PydanticCustomError(problem.code, "{message}", context),
        loc=(problem.field,),
        input=getattr(request, problem.field),
    )
