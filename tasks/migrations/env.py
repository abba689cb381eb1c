"""Alembic's entry point: our tables only, never the engine's."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, pool

from tasks.records import METADATA


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """On SQLite the engine's tables lie in the same file; they are not ours to compare or drop."""
    return kind != "table" or name in METADATA.tables


def migrate(connection: Connection) -> None:
    """Run the migrations. A transaction that the connection is in goes on afterwards."""
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        include_name=include_name,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if (given := context.config.attributes.get("connection")) is not None:
    migrate(given)
else:
    engine = create_engine(context.config.get_main_option("sqlalchemy.url", ""), poolclass=pool.NullPool)
    with engine.connect() as opened:
        migrate(opened)
    engine.dispose()
