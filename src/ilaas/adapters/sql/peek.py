"""Reads the revision of an SQLite file, over a connection of its own.

Every gateway asks for it twice a second. SQLAlchemy makes some nine visits to the driver's thread for that, and each
makes a busy event loop give way: 1.3 ms of CPU, where one visit takes a tenth.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

from sqlalchemy.engine import URL

from ilaas.core.errors import StoreUnavailable

_BUSY_TIMEOUT_S = 5.0
_REVISION = "SELECT revision FROM meta"


class RevisionPeek:
    """Opened at its first use; after a fault it is opened anew."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @classmethod
    def of(cls, url: URL) -> RevisionPeek | None:
        """For an SQLite database; None when it is not a file."""
        name = url.database
        return None if not name or name == ":memory:" or name.startswith("file:") else cls(Path(name))

    async def current(self) -> int:
        """The revision that was committed last. Raises StoreUnavailable."""
        return await asyncio.to_thread(self._read)

    async def close(self) -> None:
        """Let go of the connection; a later use opens it again."""
        await asyncio.to_thread(self._forget)

    def _read(self) -> int:
        with self._lock:
            try:
                if self._connection is None:
                    # Never made here: a file that is gone is a fault, not a new database.
                    address = f"{self._file.absolute().as_uri()}?mode=rw"
                    self._connection = sqlite3.connect(
                        address, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
                    )
                row = self._connection.execute(_REVISION).fetchone()
                return int(row[0])
            except (sqlite3.Error, TypeError) as error:
                self._drop()
                raise StoreUnavailable(f"The database does not answer: {type(error).__name__} ({error}).") from error

    def _forget(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
