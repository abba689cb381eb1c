"""The tables. Rows hold references, never picture bytes; every row carries its project; times are UTC and aware."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from secrets import token_urlsafe
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import JsonValue
from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, Index, Integer, MetaData, String, UniqueConstraint
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from providers.described import DescribedEnum
from tasks.status import TaskStatus

E = TypeVar("E", bound=Enum)

DEFAULT_PROJECT = "default"
"""The one project there is until keys exist."""

JsonObject = dict[str, JsonValue]

# SQLite increments only INTEGER primary keys by itself; PostgreSQL gets the wide type.
BigIntegerKey = BigInteger().with_variant(Integer, "sqlite")

# SQLite would give the number of a deleted last row to the next one.
KEEP_COUNTING = {"sqlite_autoincrement": True}

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
METADATA: MetaData = SQLModel.metadata


def now() -> datetime:
    """The time, aware and in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """An id nobody can guess: 32 hexadecimal digits."""
    return uuid4().hex


class UTCDateTime(TypeDecorator[datetime]):
    """An aware time. SQLite forgets zones, so what it gives back is marked as the UTC it was stored as."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; use tasks.records.now()")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


class EnumText(TypeDecorator[Enum]):
    """A described enum, stored as its value, so that a new member needs no migration."""

    impl = String
    cache_ok = True

    def __init__(self, enum: type[Enum]) -> None:
        super().__init__(32)
        self.enum = enum

    def process_bind_param(self, value: Enum | None, dialect: Dialect) -> str | None:
        return None if value is None else str(self.enum(value).value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Enum | None:
        return None if value is None else self.enum(value)


def _time(*, nullable: bool = True) -> Column[datetime]:
    return Column(UTCDateTime, nullable=nullable)


def _json(*, nullable: bool = True) -> Column[JsonValue]:
    return Column(JSON(none_as_null=True), nullable=nullable)


class ImageKind(DescribedEnum):
    """Whether a picture is finished."""

    FINAL = "final", "The finished picture."
    PREVIEW = "preview", "A preview of a finished picture that has to be bought (`purchaseImage`)."
    PARTIAL = "partial", "An earlier stage of a picture that was still developing."


class TaskRecord(SQLModel, table=True):
    """One generation, from the click to its end."""

    __tablename__ = "task"
    __table_args__ = (
        UniqueConstraint("project", "idempotency_key"),
        Index(None, "project", "number"),
        Index(None, "project", "status", "number"),
        Index(None, "project", "provider", "number"),
        Index(None, "provider", "status", "turn"),
        Index(None, "provider", "turn"),
        Index(None, "status", "created_at"),
        Index(None, "status", "finished_at"),
        KEEP_COUNTING,
    )

    number: int | None = Field(default=None, sa_column=Column(BigIntegerKey, primary_key=True))
    """Counts up with every task; the readable name of a task, and the order of the history."""
    id: str = Field(default_factory=new_id, unique=True, max_length=32)
    project: str = Field(default=DEFAULT_PROJECT, max_length=64)
    provider: str = Field(max_length=64)
    sandbox: bool
    status: TaskStatus = Field(default=TaskStatus.QUEUED, sa_column=Column(EnumText(TaskStatus), nullable=False))
    request: JsonObject = Field(sa_column=_json(nullable=False))
    """The provider's parameters as the client gave them."""
    prompt: str
    model: str | None = Field(default=None, max_length=256)
    idempotency_key: str | None = Field(default=None, max_length=200)
    fingerprint: str = Field(max_length=64)
    """Hash of everything a client asked for: the same key with another one is a conflict."""
    name: str | None = Field(default=None, max_length=200)
    tags: list[str] = Field(default_factory=list, sa_column=_json(nullable=False))
    client_metadata: JsonValue = Field(default=None, sa_column=Column("metadata", JSON(none_as_null=True)))
    """Whatever the client wants to find again on its task (`metadata` in the schema and in the table)."""

    retried_from: str | None = Field(default=None, max_length=32)
    """The task that this one repeats."""

    turn: int = 0
    """Its place in the queue of its provider: lower goes first. Projects take turns (`tasks.turn`)."""
    attempt: int = 0
    """How many times its request has been taken up to be sent; more than 1 only after it was turned away."""
    retry_at: datetime | None = Field(default=None, sa_column=_time())
    """When the next attempt is made, while it waits for one."""
    run: int = 0
    """Which run owns the task. A worker that lost it holds an older number, and cannot write."""
    idle_runs: int = 0
    """How many runs in a row have begun without recording anything: a task that kills its server shows here."""
    cancel_requested_at: datetime | None = Field(default=None, sa_column=_time())
    cancellation: JsonObject | None = Field(default=None, sa_column=_json())
    """What canceling achieved (`tasks.cancellation.Cancellation`)."""
    listening: bool = False
    """Whether somebody shall listen for a picture that was paid for, also after its end."""
    last_sequence: int = 0
    transport: str | None = Field(default=None, max_length=32)
    """How far the request that pays got: a value of `providers.errors.Transport`."""
    submission: JsonObject | None = Field(default=None, sa_column=_json())
    """What the adapter needs to go on watching (`providers.contract.Submission`)."""
    progress: JsonObject | None = Field(default=None, sa_column=_json())
    effective: JsonObject | None = Field(default=None, sa_column=_json())
    """What the provider made of the request (`providers.contract.Effective`)."""
    usage: JsonObject | None = Field(default=None, sa_column=_json())
    notices: list[JsonObject] = Field(default_factory=list, sa_column=_json(nullable=False))
    failure: JsonObject | None = Field(default=None, sa_column=_json())

    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
    submitted_at: datetime | None = Field(default=None, sa_column=_time())
    accepted_at: datetime | None = Field(default=None, sa_column=_time())
    finished_at: datetime | None = Field(default=None, sa_column=_time())


class EventRecord(SQLModel, table=True):
    """One line of a task's event log. Never changed, never reordered; sequences start at 1 and have no gap."""

    __tablename__ = "task_event"
    __table_args__ = (
        UniqueConstraint("task_id", "sequence"),
        Index(None, "transaction", "position"),
        KEEP_COUNTING,
    )

    position: int | None = Field(default=None, sa_column=Column(BigIntegerKey, primary_key=True))
    task_id: str = Field(foreign_key="task.id", max_length=32)
    project: str = Field(max_length=64)
    transaction: int | None = Field(default=None, sa_column=Column(BigInteger))
    """On PostgreSQL the transaction that wrote it, because positions there are not given out in the order of commits;
    null on SQLite, where they are."""
    sequence: int
    kind: str = Field(max_length=32)
    payload: JsonObject = Field(default_factory=dict, sa_column=_json(nullable=False))
    at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))


class ImageRecord(SQLModel, table=True):
    """One picture of a task. The bytes are in the picture store, under their hash."""

    __tablename__ = "image"
    __table_args__ = (UniqueConstraint("task_id", "kind", "index", "partial_image_index"), KEEP_COUNTING)

    number: int | None = Field(default=None, sa_column=Column(BigIntegerKey, primary_key=True))
    id: str = Field(default_factory=new_id, unique=True, max_length=32)
    project: str = Field(max_length=64)
    task_id: str = Field(foreign_key="task.id", max_length=32)
    kind: ImageKind = Field(sa_column=Column(EnumText(ImageKind), nullable=False))
    index: int
    """Which picture of the task, from 0."""
    partial_image_index: int = -1
    """Which stage of it, from 0; -1 for a finished picture, because a unique constraint ignores nulls."""
    provider_image_id: str | None = Field(default=None, max_length=200)
    """The provider's own id of the picture, by which it can be bought."""
    sha256: str = Field(max_length=64, index=True)
    media_type: str = Field(max_length=64)
    width: int
    height: int
    byte_size: int = Field(sa_column=Column(BigInteger, nullable=False))
    late: bool = False
    """Whether it arrived after its task had been canceled or given up."""
    placeholder: str | None = None
    """A tiny picture as a `data:` URI, made right after the original was stored."""
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))


class CallbackRecord(SQLModel, table=True):
    """A place where a provider can report on one task. The token in its URL is the only way to find it."""

    __tablename__ = "callback"

    token: str = Field(default_factory=lambda: token_urlsafe(32), primary_key=True, max_length=64)
    task_id: str = Field(foreign_key="task.id", unique=True, max_length=32)
    project: str = Field(max_length=64)
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))


class DeliveryRecord(SQLModel, table=True):
    """What a provider sent to a callback. The body is in the image store, because it may be a picture."""

    __tablename__ = "callback_delivery"
    __table_args__ = (KEEP_COUNTING,)

    number: int | None = Field(default=None, sa_column=Column(BigIntegerKey, primary_key=True))
    token: str = Field(foreign_key="callback.token", index=True, max_length=64)
    media_type: str = Field(max_length=200)
    body: str = Field(max_length=200)
    """Where the body is in the image store."""
    at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))


class NodeRecord(SQLModel, table=True):
    """A process that works on tasks. One whose row grows old is dead, and the others take over its tasks."""

    __tablename__ = "node"

    id: str = Field(primary_key=True, max_length=128)
    started_at: datetime = Field(sa_column=_time(nullable=False))
    seen_at: datetime = Field(sa_column=_time(nullable=False))
    """By the database's own clock, because those of the nodes may differ."""


class AccountRecord(SQLModel, table=True):
    """What all nodes know about the account at one provider."""

    __tablename__ = "account"

    provider: str = Field(primary_key=True, max_length=64)
    circuit: JsonObject = Field(sa_column=_json(nullable=False))
    """`tasks.circuit.CircuitState`."""
    updated_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))


class StoreRecord(SQLModel, table=True):
    """Which picture store belongs to this database: the one with this token in it (`tasks.ownership`). There is one
    row."""

    __tablename__ = "store"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=32)
