"""Brings the schema up to date with Alembic, safely when several processes open the same database at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from ilaas.adapters.sql.engine import Database
from ilaas.core.errors import ConfigError, StoreUnavailable

log = logging.getLogger(__name__)
"""Not structlog: commands open the store without setting it up, and it would write to their standard output."""

VERSION_TABLE = "ilaas_version"
"""Not Alembic's usual name: today's dispatcher, which uses that one, may live in the same database."""

_LOCK = 0x696C616173  # "ilaas": the advisory lock of PostgreSQL that migrations hold
_WAL_TRIES = 50
_WAL_PAUSE_S = 0.1


async def migrate(database: Database) -> None:
    """Run the steps that are missing. Raises ConfigError when the database is of a newer version of ilaas."""
    if database.is_sqlite:
        await _use_wal(database)
    async with database.read() as connection:
        if await connection.run_sync(_is_current):
            return
    async with database.write() as connection:
        if not database.is_sqlite:  # SQLite's write lock is held already
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before, after = await connection.run_sync(_upgrade)
    if before != after:
        log.info("database_upgraded from %s to %s", before or "nothing", after)


async def _use_wal(database: Database) -> None:
    """Write-ahead logging: readers never wait for a writer. Changing to it does not heed the busy timeout."""
    for attempt in range(_WAL_TRIES):
        try:
            async with database.autocommit() as connection:
                await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except StoreUnavailable:
            if attempt == _WAL_TRIES - 1:
                raise
        await asyncio.sleep(_WAL_PAUSE_S)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent / "migrations"))


def _context(connection: Connection, **options: Any) -> MigrationContext:
    # A context of our own instead of an env.py: that one works on global state, which two stores opened in one
    # process at the same time would share.
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, **options})


def _is_current(connection: Connection) -> bool:
    return set(_context(connection).get_current_heads()) == set(_scripts().get_heads())


def _upgrade(connection: Connection) -> tuple[str | None, str | None]:
    """The revisions before and after; before is None for a new database."""
    scripts = _scripts()

    def steps(revision: Any, _context: MigrationContext) -> Iterable[Any]:
        return scripts._upgrade_revs("head", revision)  # what alembic.command.upgrade does itself

    context = _context(connection, fn=steps)
    before = context.get_current_revision()
    try:
        context.run_migrations(op=Operations(context))
    except CommandError as error:
        raise ConfigError(
            f"The database is of a newer version of ilaas than this one ({error}). Run the newer version."
        ) from error
    return before, context.get_current_revision()
