"""nodes, retries and cancellation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    with op.batch_alter_table("task") as task:
        task.add_column(sa.Column("retried_from", sa.String(length=32), nullable=True))
        task.add_column(sa.Column("turn", sa.Integer(), nullable=False, server_default="0"))
        task.add_column(sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"))
        task.add_column(sa.Column("retry_at", TIME, nullable=True))
        task.add_column(sa.Column("idle_runs", sa.Integer(), nullable=False, server_default="0"))
        task.add_column(sa.Column("cancel_requested_at", TIME, nullable=True))
        task.add_column(sa.Column("cancellation", JSON, nullable=True))
        task.add_column(sa.Column("listening", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(op.f("ix_task_provider_task_status_task_turn"), "task", ["provider", "status", "turn"])
    op.create_index(op.f("ix_task_provider_task_turn"), "task", ["provider", "turn"])
    op.create_index(op.f("ix_task_status_task_created_at"), "task", ["status", "created_at"])
    with op.batch_alter_table("image") as image:
        image.add_column(sa.Column("late", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("task_event") as event:
        event.add_column(sa.Column("transaction", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_task_event_transaction_task_event_position"), "task_event", ["transaction", "position"])
    op.create_table(
        "node",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node")),
    )
    op.create_table(
        "account",
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("circuit", JSON, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_account")),
    )
    op.create_table(
        "store",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store")),
    )


def downgrade() -> None:
    op.drop_table("store")
    op.drop_table("account")
    op.drop_table("node")
    op.drop_index(op.f("ix_task_event_transaction_task_event_position"), "task_event")
    with op.batch_alter_table("task_event") as event:
        event.drop_column("transaction")
    with op.batch_alter_table("image") as image:
        image.drop_column("late")
    op.drop_index(op.f("ix_task_status_task_created_at"), "task")
    op.drop_index(op.f("ix_task_provider_task_turn"), "task")
    op.drop_index(op.f("ix_task_provider_task_status_task_turn"), "task")
    with op.batch_alter_table("task") as task:
        for column in (
            "listening",
            "cancellation",
            "cancel_requested_at",
            "idle_runs",
            "retry_at",
            "attempt",
            "turn",
            "retried_from",
        ):
            task.drop_column(column)
