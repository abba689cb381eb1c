"""The providers' parameters as GraphQL types, made from their pydantic models: the input, and the same to read back.

Adding a provider adds one pair here and one field in `graph.inputs.GenerationRequest`.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import strawberry
from pydantic import ValidationError

from graph.enums import enum
from providers.openai_images import request as openai_images
from providers.openai_images.request import OpenAIImagesRequest
from tasks.records import JsonObject

for described in (
    openai_images.OpenAIImagesBackground,
    openai_images.OpenAIImagesModeration,
    openai_images.OpenAIImagesResponseFormat,
    openai_images.OpenAIImagesStyle,
):
    enum(described)

strawberry.pydantic.input(
    name="OpenAIImagesInput",
    description="What to ask of an OpenAI-style images API. Rules that depend on the model family are checked too.",
)(OpenAIImagesRequest)


@strawberry.pydantic.type(name="OpenAIImagesRequest", description="What was asked of an OpenAI-style images API.")
class OpenAIImagesRequested(OpenAIImagesRequest):
    """The same parameters, to read back."""


TaskRequest: TypeAlias = Annotated[
    OpenAIImagesRequested,
    strawberry.union("TaskRequest", description="The parameters of a task, by provider."),
]

REQUESTED: dict[str, type[TaskRequest]] = {"openai_images": OpenAIImagesRequested}
"""The type to read a stored request back with, by provider."""


def requested_of(provider: str, stored: JsonObject) -> TaskRequest:
    """The parameters of a task as they were given."""
    requested = REQUESTED[provider]
    try:
        return requested.model_validate(stored)
    except ValidationError:
        # Stored under older rules. What was asked is shown all the same.
        values: dict[str, Any] = dict(stored)
        return requested.model_construct(**values)
