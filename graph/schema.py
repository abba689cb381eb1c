"""The schema, built once per process."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import orjson
import strawberry
from graphql import GraphQLError, OperationDefinitionNode
from strawberry.extensions import (
    MaskErrors,
    MaxAliasesLimiter,
    ParserCache,
    QueryDepthLimiter,
    SchemaExtension,
    ValidationCache,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from graph.errors import Error, IdempotencyConflicts, ValidationErrors, is_ours
from graph.mutation import Mutation
from graph.nesting import ListInsideItselfRule
from graph.query import Query
from graph.scalars import SCALARS
from graph.subscription import Subscription
from graph.types.activity import ACTIVITY_TYPES
from graph.types.events import EVENT_TYPES
from graph.types.image import Image
from tasks.errors import DatabaseUnavailableError

log = logging.getLogger(__name__)

MAX_DEPTH = 12
MAX_TOKENS = 2_000
MAX_ALIASES = 30
MAX_DOCUMENT_BYTES = 64 * 1024
"""Of a document. Documents are remembered, and a comment or a text in one is a single token, however long."""
REMEMBERED = 100
"""How many documents are kept parsed and checked. One of the largest takes more than a megabyte."""
UNEXPECTED = "Something went wrong in this server. Its log has the details."

AWAY = (
    "The database of this server cannot be reached just now; try again in a moment. A mutation may or may not have "
    "been carried out: repeat it with the same `idempotencyKey`, and nothing is paid twice."
)


class Schema(strawberry.Schema):
    """Logs our own faults with their traceback, and a client's mistakes not at all."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Called with the original errors, before they are masked."""
        for error in errors:
            if isinstance(error.original_error, DatabaseUnavailableError):
                log.warning("%s", error.original_error)
            elif is_ours(error):
                log.error("Unexpected error at %s", error.path, exc_info=error.original_error)


class OurErrors(MaskErrors):
    """Shows nothing of our own faults, and what to do when the database is away."""

    def anonymise_error(self, error: GraphQLError) -> GraphQLError:
        """What the client gets."""
        if not isinstance(error.original_error, DatabaseUnavailableError):
            return super().anonymise_error(error)
        return GraphQLError(
            AWAY, nodes=error.nodes, path=error.path, extensions={"code": "UNAVAILABLE"}, original_error=None
        )


LIMITS = (
    *QueryDepthLimiter(max_depth=MAX_DEPTH).validation_rules,
    *MaxAliasesLimiter(max_alias_count=MAX_ALIASES).validation_rules,
    ListInsideItselfRule,
)
"""Made once: the rules are a part of the key under which a document is known to be valid."""


class RequestLimits(SchemaExtension):
    """What a request may be: refuses a document that is too long, before anything remembers it, variables that are too
    deep for whatever goes down into them, and what no client needs.

    One extension, because each costs every request time of its own.
    """

    def on_operation(self) -> Iterator[None]:
        """Before the document is parsed."""
        context = self.execution_context
        query = context.query or ""
        size = len(query) if query.isascii() else len(query.encode(errors="surrogatepass"))
        if size > MAX_DOCUMENT_BYTES:
            message = (
                f"The document has {size:,} bytes; at most {MAX_DOCUMENT_BYTES:,} are read. "
                "Prompts and other long texts belong in the variables."
            )
            raise GraphQLError(message, extensions={"code": "DOCUMENT_TOO_LARGE"})
        encoded(context.variables)
        context.parse_options["max_tokens"] = MAX_TOKENS
        context.validation_rules += LIMITS
        yield

    def on_validate(self) -> Iterator[None]:
        """Refuses a document with several operations and no `operationName` (GraphQL specification, "GetOperation").
        Strawberry would run the first one, which with mutations is a guess about money."""
        context = self.execution_context
        definitions = context.graphql_document.definitions if context.graphql_document else ()
        names = [one.name.value for one in definitions if isinstance(one, OperationDefinitionNode) and one.name]
        if len(names) > 1 and context._provided_operation_name is None:
            message = f"The document has several operations ({', '.join(names)}): say which one in `operationName`."
            context.pre_execution_errors = [GraphQLError(message)]
        yield


def encoded(given: object) -> bytes:
    """Variables as JSON, always the same for the same. Raises `GraphQLError` for those that are too deep: more can be
    read than can be written."""
    try:
        return orjson.dumps(given, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as exc:
        message = "The variables are nested too deeply; some 250 levels are the most there may be."
        raise GraphQLError(message, extensions={"code": "VARIABLES_TOO_DEEP"}) from exc


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[*EVENT_TYPES, *ACTIVITY_TYPES, Image, Error],
    exception_handlers=[ValidationErrors(), IdempotencyConflicts()],
    extensions=[
        lambda: ParserCache(maxsize=REMEMBERED),
        lambda: ValidationCache(maxsize=REMEMBERED),
        RequestLimits,
        lambda: OurErrors(should_mask_error=is_ours, error_message=UNEXPECTED),
    ],
    config=StrawberryConfig(scalar_map=SCALARS),
)


def presentable(errors: Sequence[Exception]) -> list[GraphQLError]:
    """Errors as a client may see them; our own faults are logged, and masked."""
    found = [one if isinstance(one, GraphQLError) else GraphQLError(str(one), original_error=one) for one in errors]
    schema.process_errors(found)
    return OurErrors(should_mask_error=is_ours, error_message=UNEXPECTED)._process_errors(found)


def print_schema() -> str:
    """The schema in the schema definition language, as it is committed."""
    return schema.as_str() + "\n"
