"""tasks by when they ended."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_task_status_task_finished_at"), "task", ["status", "finished_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_task_status_task_finished_at"), "task")
