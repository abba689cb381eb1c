"""The schema, built once per process."""

from __future__ import annotations

import logging

import strawberry
from graphql import GraphQLError
from strawberry.extensions import (
    MaskErrors,
    MaxAliasesLimiter,
    MaxTokensLimiter,
    ParserCache,
    QueryDepthLimiter,
    ValidationCache,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from graph.errors import Error, IdempotencyConflicts, ValidationErrors, is_ours
from graph.mutation import Mutation
from graph.query import Query
from graph.scalars import SCALARS
from graph.subscription import Subscription
from graph.types.events import EVENT_TYPES
from graph.types.image import Image

log = logging.getLogger(__name__)

MAX_DEPTH = 12
MAX_TOKENS = 2_000
MAX_ALIASES = 30
UNEXPECTED = "Something went wrong in this server. Its log has the details."


class Schema(strawberry.Schema):
    """Logs our own faults with their traceback, and a client's mistakes not at all."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Called with the original errors, before they are masked."""
        for error in errors:
            if is_ours(error):
                log.error("Unexpected error at %s", error.path, exc_info=error.original_error)


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[*EVENT_TYPES, Image, Error],
    exception_handlers=[ValidationErrors(), IdempotencyConflicts()],
    extensions=[
        lambda: QueryDepthLimiter(max_depth=MAX_DEPTH),
        lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS),
        lambda: MaxAliasesLimiter(max_alias_count=MAX_ALIASES),
        lambda: ParserCache(maxsize=256),
        lambda: ValidationCache(maxsize=256),
        lambda: MaskErrors(should_mask_error=is_ours, error_message=UNEXPECTED),
    ],
    config=StrawberryConfig(scalar_map=SCALARS),
)


def print_schema() -> str:
    """The schema in the schema definition language, as it is committed."""
    return schema.as_str() + "\n"
