"""A task that is cancelled while it writes leaves no lock behind, whatever the database was doing for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from ilaas.adapters.sql.engine import Database, make_sqlite_file


@pytest.mark.parametrize("doing", ["BEGIN", "SELECT", "INSERT", "COMMIT"])
async def test_whoever_writes_after_a_cancelled_writer_does_not_wait(doing: str, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ilaas.db'}")
    make_sqlite_file(database.url)
    loop = asyncio.get_running_loop()
    writers: list[asyncio.Task[None]] = []
    cancelled: list[BaseException] = []
    armed = False

    def executing(statement: str) -> None:
        """In the driver's thread, as the statement begins."""
        if armed and statement.startswith(doing):
            loop.call_soon_threadsafe(writers[-1].cancel)

    @event.listens_for(database._engine.sync_engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.run_async(lambda driver: driver.set_trace_callback(executing))

    async def write() -> None:
        async with database.write() as connection:
            await connection.exec_driver_sql("INSERT INTO rows SELECT number + 1 FROM rows LIMIT 1")
            await connection.exec_driver_sql("SELECT * FROM rows")

    async with database.autocommit() as connection:
        await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    async with database.write() as connection:
        await connection.exec_driver_sql("CREATE TABLE rows (number INTEGER)")
        await connection.exec_driver_sql("INSERT INTO rows VALUES (1)")
    for _ in range(20):
        armed = True
        writers.append(asyncio.create_task(write()))
        try:
            await writers[-1]
        except asyncio.CancelledError as error:
            cancelled.append(error)  # whoever keeps it keeps what it refers to
        armed = False
        await write()
    await database.close()
    assert cancelled
