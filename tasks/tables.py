"""The tables for plain statements, and their rows as records.

Statements go to the database as they are, and not through the unit of work of an ORM: an event is written several times
a second per task, and that would cost more than everything else. For the same reason a record is copied from a
template, which takes a fiftieth of the time of making one whose every field is set by the mapper.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from sqlalchemy import Row, Table, inspect
from sqlmodel import SQLModel

from tasks.records import (
    AccountRecord,
    CallbackRecord,
    DeliveryRecord,
    EventRecord,
    ImageKind,
    ImageRecord,
    NodeRecord,
    StoreRecord,
    TaskRecord,
    new_id,
    now,
)

R = TypeVar("R", bound=SQLModel)


def _table(kind: type[SQLModel]) -> Table:
    return cast(Table, inspect(kind).local_table)


def _fields(kind: type[SQLModel]) -> tuple[str, ...]:
    """The names of a record's fields, in the order of the columns."""
    mapper = inspect(kind)
    return tuple(mapper.get_property_by_column(column).key for column in _table(kind).columns)


TASKS, EVENTS, IMAGES = _table(TaskRecord), _table(EventRecord), _table(ImageRecord)
CALLBACKS, DELIVERIES = _table(CallbackRecord), _table(DeliveryRecord)
NODES, ACCOUNTS, STORES = _table(NodeRecord), _table(AccountRecord), _table(StoreRecord)

_TASK = TaskRecord(provider="", sandbox=True, request={}, prompt="", fingerprint="")
_IMAGE = ImageRecord(
    project="", task_id="", kind=ImageKind.FINAL, index=0, sha256="", media_type="", width=0, height=0, byte_size=0
)
_TASK_FIELDS, _IMAGE_FIELDS = _fields(TaskRecord), _fields(ImageRecord)
_KEYS = {
    kind: tuple(zip(_table(kind).columns.keys(), _fields(kind), strict=True)) for kind in (TaskRecord, ImageRecord)
}


def task_of(row: Row[Any]) -> TaskRecord:
    """The task in a row of all columns."""
    return _TASK.model_copy(update=dict(zip(_TASK_FIELDS, row, strict=True)))


def image_of(row: Row[Any]) -> ImageRecord:
    """The picture in a row of all columns."""
    return _IMAGE.model_copy(update=dict(zip(_IMAGE_FIELDS, row, strict=True)))


def new_task(**values: Any) -> TaskRecord:
    """A task that has no row yet."""
    return _TASK.model_copy(update={"id": new_id(), "created_at": now(), "notices": [], **values})


def new_image(**values: Any) -> ImageRecord:
    """A picture that has no row yet."""
    return _IMAGE.model_copy(update={"id": new_id(), "created_at": now(), **values})


def row_of(record: TaskRecord | ImageRecord) -> dict[str, Any]:
    """The values of a new row. The database gives it its number."""
    return {column: getattr(record, field) for column, field in _KEYS[type(record)] if column != "number"}
