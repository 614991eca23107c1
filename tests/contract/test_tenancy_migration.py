"""A database of the first version keeps its keys, and their projects become projects."""

from __future__ import annotations

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from ilaas.adapters.sql import SqlStore
from ilaas.adapters.sql.engine import database_url as parsed_url
from ilaas.adapters.sql.migrations.versions import v0001_foundation
from ilaas.core.tenancy import Organisation, Project
from tests.contract.conftest import SECRET

KEY = (
    "INSERT INTO keys (id, digest, hint, name, organisation, project, priority, routing_mode, classes, created_at_s, "
    "limits, chat_client, revision) VALUES ('{0}', {1}, 'h', '{0}', 'Lille', '{2}', 0, 'any', '[]', 1.0, '{{}}', "
    "false, 3)"
)


def make_first_version(connection: Connection) -> None:
    context = MigrationContext.configure(connection)
    v0001_foundation.upgrade(Operations(context))
    connection.execute(text("CREATE TABLE ilaas_version (version_num VARCHAR(32) NOT NULL)"))
    connection.execute(text("INSERT INTO ilaas_version VALUES ('0001')"))
    connection.execute(text("INSERT INTO organisations VALUES ('Lille', 2.0, true, true, '{}', 2)"))
    for number, project in enumerate(["corpus", "corpus", "Langues: L'été"]):
        digest = f"decode('0{number}', 'hex')" if connection.dialect.name == "postgresql" else f"x'0{number}'"
        quoted = project.replace("'", "''").replace(":", r"\:")
        connection.execute(text(KEY.format(f"key_{number}", digest, quoted)))
    connection.execute(text("INSERT INTO audit (at_s, actor, action, subject) VALUES (1.0, 'a', 'b', 'c')"))


async def test_the_first_version_is_brought_up_to_date_with_what_it_holds(database_url: str) -> None:
    engine = create_async_engine(parsed_url(database_url))
    async with engine.begin() as connection:
        await connection.run_sync(make_first_version)
    await engine.dispose()
    store = SqlStore(database_url, SECRET, lambda: 10.0)
    await store.open()
    directory = await store.directory()
    assert directory.organisations == {"Lille": Organisation(name="Lille", weight=2.0)}
    assert directory.projects == {
        ("Lille", name): Project(organisation="Lille", name=name) for name in ("corpus", "Langues: L'été")
    }
    assert len(directory.keys) == 3
    assert [(line.actor, line.organisation) for line in await store.audit()] == [("a", None)]
    await store.close()
