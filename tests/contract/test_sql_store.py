"""What holds for the databases: files, migrations, secrets, and what happens when the database is away."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import sys
from dataclasses import fields
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from ilaas.adapters.secret import Secret
from ilaas.adapters.sql import SqlStore
from ilaas.adapters.sql.engine import database_url as parsed_url
from ilaas.adapters.sql.tables import METADATA, USAGE_RECORDS
from ilaas.core.errors import ConfigError, Conflict, StoreUnavailable, Unprocessable
from ilaas.core.usage import UsageRecord
from tests.contract.conftest import SECRET
from tests.contract.samples import LILLE, key, line, record, server

OPEN = """
import asyncio, sys
from ilaas.adapters.secret import Secret
from ilaas.adapters.sql import SqlStore

async def main():
    store = SqlStore(sys.argv[1], Secret("x" * 40))
    await store.open()
    print(await store.revision())
    await store.close()

asyncio.run(main())
"""


async def test_several_processes_may_open_a_new_database_at_once(database_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, database_url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in processes:
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert out == b"1\n"


async def test_several_stores_of_one_process_may_open_a_new_database_at_once(database_url: str) -> None:
    stores = [SqlStore(database_url, SECRET) for _ in range(4)]
    try:
        await asyncio.gather(*(store.open() for store in stores))
        assert [await store.revision() for store in stores] == [1] * 4
    finally:
        for store in stores:
            await store.close()


async def test_what_was_stored_is_there_after_a_restart(database_url: str) -> None:
    for _ in range(2):
        store = SqlStore(database_url, SECRET)
        await store.open()
        await store.put_organisation(LILLE, line())
        await store.close()
    store = SqlStore(database_url, SECRET)
    await store.open()
    assert (await store.directory()).organisations == {LILLE.name: LILLE}
    await store.close()


async def test_the_migrations_make_the_tables_that_the_code_uses(database_url: str) -> None:
    store = SqlStore(database_url, SECRET)
    await store.open()
    await store.close()

    def differences(connection: Connection) -> list[object]:
        options = {"version_table": "ilaas_version", "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))

    engine = create_async_engine(parsed_url(database_url))
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()


def test_the_table_of_usage_has_the_fields_of_a_record() -> None:
    assert [column.name for column in USAGE_RECORDS.columns] == [field.name for field in fields(UsageRecord)]


async def test_an_upgrade_of_the_database_is_logged_once(
    database_url: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO", "ilaas")
    for _ in range(2):
        store = SqlStore(database_url, SECRET)
        await store.open()
        await store.close()
    assert [line.getMessage().split()[:3] for line in caplog.records] == [["database_upgraded", "from", "nothing"]]
    assert capsys.readouterr().out == ""


async def test_another_products_alembic_version_is_left_alone(database_url: str) -> None:
    engine = create_async_engine(parsed_url(database_url))
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        await connection.execute(text("INSERT INTO alembic_version VALUES ('212c4b4d9489')"))
    store = SqlStore(database_url, SECRET)
    await store.open()
    assert await store.revision() == 1
    await store.close()
    async with engine.begin() as connection:
        assert (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalars().all() == [
            "212c4b4d9489"
        ]
    await engine.dispose()


async def test_a_database_of_a_newer_version_is_refused_with_the_remedy(database_url: str) -> None:
    store = SqlStore(database_url, SECRET)
    await store.open()
    engine = create_async_engine(parsed_url(database_url))
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE ilaas_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(ConfigError, match="newer version"):
        await store.open()
    await store.close()


async def test_the_audit_trail_can_be_neither_changed_nor_shortened(database_url: str) -> None:
    store = SqlStore(database_url, SECRET)
    await store.open()
    await store.put_organisation(LILLE, line())
    engine = create_async_engine(parsed_url(database_url))
    emptied = ("TRUNCATE audit",) if database_url.startswith("postgresql") else ()  # SQLite has no such statement
    for statement in ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", *emptied):
        with pytest.raises(Exception, match="append-only"):
            async with engine.begin() as connection:
                await connection.execute(text(statement))
    await engine.dispose()
    assert list(await store.audit()) == [line()]
    await store.close()


async def test_a_servers_token_is_nowhere_in_the_database_and_needs_the_right_secret(database_url: str) -> None:
    store = SqlStore(database_url, SECRET)
    await store.open()
    await store.put_server(server(token="a token in clear"), line())
    engine = create_async_engine(parsed_url(database_url))
    async with engine.begin() as connection:
        row = (await connection.execute(text("SELECT * FROM servers"))).one()
    await engine.dispose()
    assert "a token in clear" not in str(row)
    await store.close()
    stranger = SqlStore(database_url, Secret("another secret, also long enough for it"))
    await stranger.open()
    with pytest.raises(ConfigError, match="another secret"):
        await stranger.servers()
    await stranger.close()


@pytest.mark.parametrize("changes", [{"model": None}, {"prompt_tokens": 2**63}, {"model": "lone \ud800 surrogate"}])
async def test_a_record_that_can_not_be_held_is_refused_as_such(database_url: str, changes: dict[str, object]) -> None:
    store = SqlStore(database_url, SECRET)
    await store.open()
    with pytest.raises(Unprocessable):
        await store.add_usage([record(1), record(2, **changes)])
    assert await store.add_usage([record(1)]) == 1
    await store.close()


@pytest.mark.parametrize("changes", [{"model": "nul \x00"}, {"status": 2**40}])
async def test_what_only_postgresql_can_not_hold_is_refused_as_such(
    postgres_url: str, changes: dict[str, object]
) -> None:
    store = SqlStore(postgres_url, SECRET)
    await store.open()
    with pytest.raises(Unprocessable):
        await store.add_usage([record(2, **changes)])
    await store.close()


async def test_a_usage_record_is_stored_as_it_is(database_url: str) -> None:
    store = SqlStore(database_url, SECRET)
    await store.open()
    await store.add_usage([record()])
    await store.close()
    engine = create_async_engine(parsed_url(database_url))
    async with engine.begin() as connection:
        row = (await connection.execute(USAGE_RECORDS.select())).one()
    await engine.dispose()
    assert row._asdict() == {field.name: getattr(record(), field.name) for field in fields(UsageRecord)}


async def test_the_sqlite_files_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ilaas.db"
    store = SqlStore(f"sqlite:///{path}", SECRET)
    await store.open()
    await store.put_organisation(LILLE, line())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    await store.close()
    assert modes["ilaas.db"] == 0o600
    assert set(modes.values()) == {0o600}


async def test_readers_of_sqlite_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'ilaas.db'}", SECRET)
    await store.open()
    writer = sqlite3.connect(tmp_path / "ilaas.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert await store.revision() == 1
    writer.execute("ROLLBACK")
    writer.close()
    await store.close()


async def test_a_file_that_is_no_database_is_reported_as_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "ilaas.db"
    path.write_bytes(b"this is no database" * 100)
    store = SqlStore(f"sqlite:///{path}", SECRET)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await store.revision()
    await store.close()


async def test_a_path_that_can_not_be_a_file_is_named(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}", SECRET)
    with pytest.raises(ConfigError, match=str(tmp_path)):
        await store.open()
    await store.close()


async def test_no_server_at_the_address_is_reported_as_unavailable(unused_tcp_port: int) -> None:
    store = SqlStore(f"postgresql://ilaas:hidden@127.0.0.1:{unused_tcp_port}/ilaas", SECRET)
    with pytest.raises(StoreUnavailable) as caught:
        await store.open()
    assert "hidden" not in caught.value.message
    await store.close()


async def test_a_database_that_is_not_there_is_reported_as_unavailable(postgres_url: str) -> None:
    head, _, query = postgres_url.partition("?")
    store = SqlStore(f"{head}_missing?{query}", SECRET)
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await store.open()
    await store.close()


async def test_connections_that_postgresql_cut_are_made_again(postgres_url: str) -> None:
    store = SqlStore(postgres_url, SECRET)
    await store.open()
    other = await asyncpg.connect(postgres_url)
    await other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await other.close()
    assert await store.revision() == 1
    await store.close()


async def test_a_conflict_does_not_show_what_was_written(database_url: str) -> None:
    store = SqlStore(database_url, SECRET)
    await store.open()
    await store.put_organisation(LILLE, line())
    await store.add_key(key(), line())
    with pytest.raises(Conflict) as caught:
        await store.add_key(key(), line())
    assert key().digest.hex() not in str(caught.value)
    await store.close()


@pytest.mark.parametrize(
    ("address", "driver"),
    [
        ("postgresql+psycopg2://u:p@h/d", "postgresql+asyncpg"),
        ("postgres://u:p@h/d", "postgresql+asyncpg"),
        ("sqlite:///x.db", "sqlite+aiosqlite"),
    ],
)
def test_the_addresses_that_operators_have_are_understood(address: str, driver: str) -> None:
    assert parsed_url(address).drivername == driver


def test_the_sslmode_of_libpq_is_understood() -> None:
    assert dict(parsed_url("postgresql://u@h/d?sslmode=require").query) == {"ssl": "require"}


@pytest.mark.parametrize("address", ["mysql://u:p@h/d", "no address"])
def test_other_databases_are_refused_with_the_remedy(address: str) -> None:
    with pytest.raises(ConfigError, match="postgresql://"):
        parsed_url(address)
