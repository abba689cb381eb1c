"""To which database a picture store belongs. Files that no row of that one refers to are swept; to an empty database,
to another one, or to an old copy, pictures that were paid for would look the same.

Store and database have a token in common, and each sweep changes it. So a database and its copy drift apart, and the
one that finds a token it does not know protests. Then neither of them sweeps, until a person has decided.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection, select, text

from tasks.database import Database
from tasks.images import ImageStore
from tasks.records import new_id
from tasks.tables import IMAGES, STORES

log = logging.getLogger(__name__)

FOLDER = "owner"
"""Where the store keeps the token, as the name of an empty file."""
PROTEST = f"{FOLDER}/disputed"
"""What a database leaves there that finds the token of another one beside its own pictures."""


class Ownership:
    """The claim of one database to a store; its nodes share it."""

    def __init__(self, database: Database, images: ImageStore) -> None:
        self._database = database
        self._images = images

    async def renew(self) -> bool:
        """Whether the store belongs to this database; if it does, the token has been changed.

        False also for a node that meets another one at it. Raises `StorageError`.
        """
        mine = await self._database.write(_token)
        found = set(await self._images.keys(FOLDER))
        if PROTEST in found:
            log.warning(
                "Files that no task refers to are not swept: several databases use this picture store, or did. When "
                "only this one does, delete the folder `%s` in the store.",
                FOLDER,
            )
            return False
        if not found:
            if not await self._has_pictures() and await self._images.keys("originals"):
                self._refuse()
                return False
            await self._images.keep(_key(mine), b"")
            found.add(_key(mine))
        elif _key(mine) not in found:
            # Another node changes the database before it changes the store.
            if await self._database.write(_token) == mine:
                await self._protest()
            return False
        return await self._change(mine, found)

    async def _change(self, mine: str, found: set[str]) -> bool:
        """Whatever this is interrupted by, the store has the token that is in the database."""
        new = new_id()
        await self._images.keep(_key(new), b"")
        change = STORES.update().where(STORES.c.id == mine).values(id=new)
        if await self._database.write(lambda connection: connection.execute(change).rowcount) == 0:
            await self._images.forget([_key(new)])
            return False
        await self._images.forget(sorted(found))
        return True

    async def _protest(self) -> None:
        if await self._has_pictures():
            await self._images.keep(PROTEST, b"")
        self._refuse()

    def _refuse(self) -> None:
        log.warning(
            "Files that no task refers to are not swept: the picture store belongs to another database, or this one "
            "was restored or copied. When only this one uses the store, delete the folder `%s` in it.",
            FOLDER,
        )

    async def _has_pictures(self) -> bool:
        one = select(IMAGES.c.id).limit(1)
        return await self._database.read(lambda connection: connection.execute(one).first()) is not None


def _token(connection: Connection) -> str:
    token = _found(connection)
    if token is None and connection.dialect.name == "postgresql":
        # Of nodes that begin together only one may make it.
        connection.execute(text(f"LOCK TABLE {STORES.name} IN SHARE ROW EXCLUSIVE MODE"))
        token = _found(connection)
    if token is None:
        token = new_id()
        connection.execute(STORES.insert(), {"id": token})
    return token


def _found(connection: Connection) -> str | None:
    token: str | None = connection.execute(select(STORES.c.id)).scalar()
    return token


def _key(token: str) -> str:
    return f"{FOLDER}/{token}"
