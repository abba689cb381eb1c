"""The providers' parameters as GraphQL types, made from the registry: an input each, and the same to read back.

Nothing here knows a provider. Its pydantic model gives the fields with their descriptions, defaults and rules, and the
enums in it; `OpenAIImagesRequest` becomes the input `OpenAIImagesInput` and the type `OpenAIImagesRequest`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union, cast, get_args

import strawberry
from pydantic import BaseModel, ValidationError, create_model

from graph.enums import enum
from providers.contract import ProviderDefinition
from providers.described import DescribedEnum
from providers.registry import PROVIDERS
from tasks.records import JsonObject


def _enums(annotation: object) -> list[type[DescribedEnum]]:
    """The described enums in a field's type, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, DescribedEnum):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _enums(inner)]


def _typed(definition: ProviderDefinition[BaseModel]) -> type[BaseModel]:
    """Make a provider's request model an input of the schema, and return the type to read it back with."""
    request = definition.request
    name = request.__name__
    for field in request.model_fields.values():
        for described in _enums(field.annotation):
            if not hasattr(described, "__strawberry_definition__"):
                enum(described)
    strawberry.pydantic.input(
        name=name.removesuffix("Request") + "Input",
        description=f"What to ask of {definition.title}. Rules between the parameters are checked too.",
    )(request)
    requested = create_model(name, __base__=request, __doc__=request.__doc__)
    strawberry.pydantic.type(name=name, description=f"What was asked of {definition.title}.")(requested)
    return requested


REQUESTED = {definition.name: _typed(definition) for definition in PROVIDERS}
"""The type to read a stored request back with, by provider."""

if TYPE_CHECKING:
    TaskRequest: TypeAlias = BaseModel
else:
    TaskRequest = Annotated[
        Union[tuple(REQUESTED.values())],  # noqa: UP007 - made from a tuple
        strawberry.union("TaskRequest", description="The parameters of a task, by provider."),
    ]


def requested_of(provider: str, stored: JsonObject) -> TaskRequest:
    """The parameters of a task as they were given."""
    requested = REQUESTED[provider]
    try:
        return requested.model_validate(stored)
    except ValidationError:
        # Stored under older rules. What was asked is shown all the same.
        return requested.model_construct(**cast(dict[str, Any], stored))
