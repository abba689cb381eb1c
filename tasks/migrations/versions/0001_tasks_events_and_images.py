"""tasks, events and images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite increments only INTEGER primary keys by itself.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "task",
        sa.Column("number", KEY, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("sandbox", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("request", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("prompt", sa.String(), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=True),
        sa.Column("idempotency_key", sa.String(length=200), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("last_sequence", sa.Integer(), nullable=False),
        sa.Column("transport", sa.String(length=32), nullable=True),
        sa.Column("submission", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("progress", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("effective", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("usage", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("notices", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("failure", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_task")),
        sa.UniqueConstraint("id", name=op.f("uq_task_id")),
        sa.UniqueConstraint("project", "idempotency_key", name=op.f("uq_task_project_idempotency_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_task_project_task_number"), "task", ["project", "number"])
    op.create_index(op.f("ix_task_project_task_provider_task_number"), "task", ["project", "provider", "number"])
    op.create_index(op.f("ix_task_project_task_status_task_number"), "task", ["project", "status", "number"])

    op.create_table(
        "image",
        sa.Column("number", KEY, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("partial_image_index", sa.Integer(), nullable=False),
        sa.Column("provider_image_id", sa.String(length=200), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("placeholder", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_image_task_id_task")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_image")),
        sa.UniqueConstraint("id", name=op.f("uq_image_id")),
        sa.UniqueConstraint(
            "task_id",
            "kind",
            "index",
            "partial_image_index",
            name=op.f("uq_image_task_id_kind_index_partial_image_index"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_image_sha256"), "image", ["sha256"])

    op.create_table(
        "task_event",
        sa.Column("position", KEY, nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("payload", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_task_event_task_id_task")),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_task_event")),
        sa.UniqueConstraint("task_id", "sequence", name=op.f("uq_task_event_task_id_sequence")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "callback",
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_callback_task_id_task")),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_callback")),
        sa.UniqueConstraint("task_id", name=op.f("uq_callback_task_id")),
    )
    op.create_table(
        "callback_delivery",
        sa.Column("number", KEY, nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=200), nullable=False),
        sa.Column("body", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["token"], ["callback.token"], name=op.f("fk_callback_delivery_token_callback")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_callback_delivery")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_callback_delivery_token"), "callback_delivery", ["token"])


def downgrade() -> None:
    op.drop_table("callback_delivery")
    op.drop_table("callback")
    op.drop_table("task_event")
    op.drop_index(op.f("ix_image_sha256"), "image")

    op.drop_table("image")
    op.drop_index(op.f("ix_task_project_task_status_task_number"), "task")
    op.drop_index(op.f("ix_task_project_task_provider_task_number"), "task")
    op.drop_index(op.f("ix_task_project_task_number"), "task")

    op.drop_table("task")
