"""The nodes that work on one PostgreSQL database, and which of them are alive.

Every node says that it lives, every few seconds, by the database's clock. One that has not done so for the length of
its lease is taken for dead, whether it is gone, frozen or cut off; its tasks go to the others. That may be a mistake:
then the node finds its row gone, and goes on under a new name. Whatever it was running has been claimed by another run
by then, so it cannot write (`tasks.journal`).
"""

from __future__ import annotations

import logging
import os
import secrets
import socket

from sqlalchemy import Connection, func, literal_column, select

from tasks.database import Database
from tasks.tables import NODES

log = logging.getLogger(__name__)

ONLY_NODE = "darkroom"
"""The name of the one node that there is on SQLite; the same after a restart, which is how it finds its tasks again."""


def new_name() -> str:
    """A name that no other node has, and that tells a person where to look."""
    return f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(4)}"


class Nodes:
    """The members' list. `lease` is in seconds."""

    def __init__(self, database: Database, lease: float) -> None:
        self._database = database
        self._lease = lease

    async def join(self, name: str) -> None:
        """Be alive from now on."""

        def join(connection: Connection) -> None:
            at = connection.execute(select(func.now())).scalar_one()
            connection.execute(NODES.insert(), {"id": name, "started_at": at, "seen_at": at})

        await self._database.write(join)

    async def beat(self, name: str) -> bool:
        """Say that it is alive. False when it has been taken for dead."""
        statement = NODES.update().where(NODES.c.id == name).values(seen_at=func.now())
        return await self._database.write(lambda connection: connection.execute(statement).rowcount == 1)

    async def leave(self, name: str) -> None:
        """Be gone."""
        statement = NODES.delete().where(NODES.c.id == name)
        await self._database.write(lambda connection: connection.execute(statement))

    async def bury(self) -> None:
        """Strike off those that have not been heard of for the length of a lease."""
        oldest = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, literal_column(f"{self._lease:f}"))
        statement = NODES.delete().where(NODES.c.seen_at < oldest).returning(NODES.c.id)
        for (name,) in await self._database.write(lambda connection: connection.execute(statement).all()):
            log.warning("Node %s has not been heard of for %g seconds; its tasks are taken over", name, self._lease)

    async def alive(self) -> set[str]:
        """The names of those on the list."""
        return set(await self._database.read(lambda connection: connection.execute(select(NODES.c.id)).scalars().all()))
