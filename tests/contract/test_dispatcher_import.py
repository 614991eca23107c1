"""Today's dispatcher's users, from a real PostgreSQL and a real MariaDB, into the store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
import typer
from click.testing import Result
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from ilaas.adapters.dispatcher_db import read_users
from ilaas.adapters.sql.engine import database_url as parsed_url
from ilaas.adapters.store_memory import MemoryStore
from ilaas.cli import migrate
from ilaas.core import keys
from ilaas.core.errors import ConfigError, NotFound, StoreUnavailable, Unprocessable
from ilaas.core.values import RoutingMode
from ilaas.ports.dispatcher import DispatcherUser
from ilaas.services.administration import Administration
from ilaas.services.migration import DispatcherImport, ImportOptions, Plan, Step
from tests.contract.conftest import new_database

TABLE = """CREATE TABLE users (id {serial}, token varchar(255) NOT NULL, name varchar(255) NOT NULL,
    organization varchar(255), email varchar(255), priority integer NOT NULL, threshold integer NOT NULL,
    client_type varchar(255), default_routing_mode varchar(255) DEFAULT 'any' NOT NULL,
    CONSTRAINT unique_token UNIQUE (token), CONSTRAINT users_name_unique UNIQUE (name))"""
POSTGRESQL = TABLE.format(serial="SERIAL PRIMARY KEY")
MYSQL = TABLE.format(serial="integer PRIMARY KEY AUTO_INCREMENT")
ROWS = (
    "INSERT INTO users (token, name, organization, email, priority, threshold, client_type, default_routing_mode) "
    "VALUES ('sk-0123456789abcdef', 'Élève', 'CentraleSupélec', 'Eleve@Example.org', 5, 12, 'chat', 'private-first'), "
    "('jeton-2-0123456789', 'robot', NULL, NULL, 0, 200, NULL, 'any')"
)
USERS = [
    DispatcherUser(
        number=1,
        token="sk-0123456789abcdef",
        name="Élève",
        organization="CentraleSupélec",
        email="Eleve@Example.org",
        priority=5,
        threshold=12,
        client_type="chat",
        default_routing_mode="private-first",
    ),
    DispatcherUser(number=2, token="jeton-2-0123456789", name="robot", threshold=200),
]
PEPPER = b"p" * 32


async def fill(url: str, statements: Sequence[str]) -> None:
    engine = create_async_engine(parsed_url(url))
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def dispatcher(postgres: str) -> AsyncIterator[str]:
    async with new_database(postgres) as url:
        await fill(url, [POSTGRESQL, ROWS])
        yield url.replace("postgresql://", "postgresql+psycopg2://")


async def test_the_users_of_postgresql_are_read_whatever_driver_the_address_names(dispatcher: str) -> None:
    assert await read_users(dispatcher) == USERS
    assert await read_users(dispatcher.replace("+psycopg2", "")) == USERS


async def test_a_database_of_an_older_version_lacks_columns_that_have_defaults(postgres_url: str) -> None:
    old = "CREATE TABLE users (id integer, token text, name text, priority integer, threshold integer)"
    await fill(postgres_url, [old, "INSERT INTO users VALUES (7, 'old-token-0123456789', 'old', 3, 4)"])
    assert await read_users(postgres_url) == [
        DispatcherUser(number=7, token="old-token-0123456789", name="old", priority=3, threshold=4)
    ]


async def test_another_database_is_named_as_such(postgres_url: str) -> None:
    with pytest.raises(NotFound, match="no table 'users'"):
        await read_users(postgres_url)
    await fill(postgres_url, ["CREATE TABLE users (id integer, name text)"])
    with pytest.raises(Unprocessable, match="priority, threshold, token"):
        await read_users(postgres_url)


@pytest.mark.parametrize("address", ["oracle://host/db", "not an address", "sqlite:///users.db"])
async def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"postgresql\+psycopg2|PostgreSQL or MySQL"):
        await read_users(address)


@pytest.mark.parametrize("scheme", ["postgresql+psycopg2", "mysql+pymysql"])
async def test_a_database_that_does_not_answer_is_said_without_its_password(scheme: str) -> None:
    with pytest.raises(StoreUnavailable, match="can't be read") as caught:
        await read_users(f"{scheme}://aristote:very-secret@127.0.0.1:1/aristote")
    assert "very-secret" not in str(caught.value)


# -- MySQL -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    # A short path: that of a socket has at most some 100 characters.
    with tempfile.TemporaryDirectory(prefix="ilaas-mariadb-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def mariadb(folder: Path) -> Iterator[str]:
    """The address of a server of its own, reached by a socket only."""
    server = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
    setup = shutil.which("mariadb-install-db")
    if server is None or setup is None or shutil.which("my_print_defaults") is None:
        pytest.skip("MariaDB is not installed (apt-get install mariadb-server-core mariadb-client-core)")
    user = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.run(
        [
            setup,
            "--no-defaults",
            f"--datadir={folder}/data",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *user,
        ],
        check=True,
        capture_output=True,
    )
    socket = folder / "socket"
    options = ["--no-defaults", f"--datadir={folder}/data", f"--socket={socket}", "--skip-networking"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [server, *options, f"--pid-file={folder}/pid", "--innodb-flush-log-at-trx-commit=0", *user],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        for attempt in count():
            if socket.exists():
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert attempt < 1200, "MariaDB did not start within a minute"
            time.sleep(0.05)
        engine = create_engine(f"mysql+pymysql://root@localhost/?unix_socket={socket}")
        with engine.begin() as connection:
            for statement in (
                "CREATE DATABASE aristote CHARACTER SET utf8mb4",
                "CREATE USER aristote@localhost IDENTIFIED BY 'secret'",
                "GRANT ALL ON aristote.* TO aristote@localhost",
                "USE aristote",
                MYSQL,
                ROWS,
            ):
                connection.execute(text(statement))
        engine.dispose()
        yield f"mysql+pymysql://aristote:secret@localhost/aristote?unix_socket={socket}"
    finally:
        process.terminate()
        process.wait(timeout=30)


async def test_the_users_of_mysql_are_read_with_their_accents(mariadb: str) -> None:
    assert await read_users(mariadb) == USERS
    assert await read_users(mariadb.replace("mysql+pymysql", "mysql+mysqldb")) == USERS


async def test_a_wrong_password_of_mysql_is_said_and_not_shown(mariadb: str) -> None:
    with pytest.raises(StoreUnavailable, match="Access denied") as caught:
        await read_users(mariadb.replace(":secret@", ":another-word@"))
    assert "another-word" not in str(caught.value)


# -- the plan ----------------------------------------------------------------------------------------------------------


class Importer:
    """An import into a store of its own."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0
        self.store = MemoryStore(lambda: self.now_s)
        numbers = count(1)
        self.admin = Administration(
            self.store, PEPPER, lambda: self.now_s, lambda size: next(numbers).to_bytes(size, "big"), lambda _: None
        )
        self.importing = DispatcherImport(
            self.store, self.admin, PEPPER, lambda: self.now_s, lambda size: next(numbers).to_bytes(size, "big")
        )

    async def plan(self, users: Sequence[DispatcherUser], **options: object) -> Plan:
        return await self.importing.plan(users, ImportOptions(**options))  # type: ignore[arg-type]

    async def apply(self, users: Sequence[DispatcherUser], **options: object) -> Plan:
        return await self.importing.carry_out(await self.plan(users, **options), actor="cli:root")


def user(number: int = 1, **changes: object) -> DispatcherUser:
    whole: dict[str, object] = {
        "token": f"a-token-of-somebody-{number}",
        "name": f"user {number}",
        "organization": "Lille",
        "threshold": 10,
    }
    return DispatcherUser(number=number, **{**whole, **changes})  # type: ignore[arg-type]


async def test_every_client_keeps_its_token_and_what_it_may_do() -> None:
    importer = Importer()
    plan = await importer.apply(USERS, organisation_default="Lille")
    assert [each.step for each in plan.users] == [Step.CREATE, Step.CREATE]
    assert plan.organisations == ("CentraleSupélec", "Lille")
    directory = await importer.store.directory()
    key = directory.keys[keys.digest(b"sk-0123456789abcdef", PEPPER)]
    assert (key.organisation, key.project, key.name) == ("CentraleSupélec", "imported", "Élève")
    assert (key.priority, key.threshold, key.chat_client) == (5, 12, True)
    assert key.routing_mode is RoutingMode.PRIVATE_FIRST
    other = directory.keys[keys.digest(b"jeton-2-0123456789", PEPPER)]
    assert (other.organisation, other.chat_client, other.threshold) == ("Lille", False, 200)
    person = await importer.store.find_person(email="eleve@example.org")
    assert person is not None
    assert await importer.store.grants_of(person.id) == frozenset()


async def test_a_dry_run_writes_nothing() -> None:
    importer = Importer()
    plan = await importer.plan(USERS, organisation_default="Lille")
    assert plan.count(Step.CREATE) == 2
    assert await importer.store.revision() == 1


async def test_a_second_run_changes_nothing() -> None:
    importer = Importer()
    await importer.apply(USERS, organisation_default="Lille")
    revision = await importer.store.revision()
    again = await importer.apply(USERS, organisation_default="Lille")
    assert {each.step for each in again.users} == {Step.KNOWN}
    assert again.organisations == ()
    assert await importer.store.revision() == revision


async def test_what_was_changed_or_revoked_here_since_stays_so_and_is_said() -> None:
    importer = Importer()
    await importer.apply([user(1), user(2)])
    await importer.admin.revoke_key("a-token-of-somebody-2")
    revision = await importer.store.revision()
    first, second = (await importer.apply([user(1, priority=4), user(2)])).users
    assert "differs in priority" in first.note
    assert "revoked" in second.note
    assert await importer.store.revision() == revision


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"organization": None}, "--organisation-default"),
        ({"organization": "  "}, "--organisation-default"),
        ({"token": "with a space"}, "token is made of"),
        ({"token": ""}, "token is made of"),
        ({"token": "ilaas-mistyped"}, "checksum"),
        ({"name": ""}, "name is a text"),
        ({"name": "two\nlines"}, "name is a text"),
        ({"default_routing_mode": "nearest"}, "'nearest'"),
    ],
)
async def test_a_row_that_can_not_be_imported_says_why_and_stops_no_other(changes: dict[str, object], why: str) -> None:
    importer = Importer()
    wrong, right = (await importer.apply([user(1, **changes), user(2)])).users
    assert wrong.step is Step.REFUSE
    assert why in wrong.note
    assert right.step is Step.CREATE
    assert len((await importer.store.directory()).keys) == 1
    assert "with a space" not in wrong.note


async def test_names_that_meet_are_refused_after_the_first() -> None:
    importer = Importer()
    plan = await importer.apply([user(1, name="bot"), user(2, name="bot "), user(3, name="bot", organization="Lyon")])
    assert [each.step for each in plan.users] == [Step.CREATE, Step.REFUSE, Step.CREATE]
    assert "row 1" in plan.users[1].note
    later = await importer.plan([user(4, name="bot")])
    assert "another token" in later.users[0].note


async def test_an_address_that_somebody_has_already_is_not_kept_twice() -> None:
    importer = Importer()
    await importer.apply([user(1, email="anne@example.org"), user(2, email="ANNE@example.org"), user(3, email="none")])
    person = await importer.store.find_person(email="anne@example.org")
    assert person is not None
    assert person.name == "user 1"
    assert len((await importer.store.directory()).keys) == 3


async def test_another_spelling_of_a_known_organisation_is_pointed_out() -> None:
    importer = Importer()
    plan = await importer.plan(
        [user(1, organization="CentraleSupelec")], known_organisations=frozenset({"CentraleSupélec", "Lyon"})
    )
    assert plan.organisations == ("CentraleSupelec",)
    assert len(plan.notes) == 1
    assert "'CentraleSupélec'" in plan.notes[0]


@pytest.mark.parametrize("spelling", ["PRIVATE_ONLY", "private-only", " Private-Only "])
async def test_a_routing_mode_is_understood_as_enumerations_are_stored(spelling: str) -> None:
    (one,) = (await Importer().plan([user(default_routing_mode=spelling)])).users
    assert one.key is not None
    assert one.key.routing_mode is RoutingMode.PRIVATE_ONLY


# -- the command -------------------------------------------------------------------------------------------------------


def ilaas(folder: Path, *words: str, url: str) -> Result:
    app = typer.Typer()
    app.add_typer(migrate.app)
    return CliRunner().invoke(
        app, ["migrate", "dispatcher", *words, "--state-dir", str(folder)], env={"DATABASE_URL": url}
    )


def test_the_command_shows_first_and_writes_only_when_told(dispatcher: str, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    dry = ilaas(folder, "--organisation-default", "Lille", url=dispatcher)
    assert dry.exit_code == 0, dry.output
    assert "2 would be imported" in dry.output
    assert not folder.exists()
    done = ilaas(folder, "--organisation-default", "Lille", "--apply", url=dispatcher)
    assert done.exit_code == 0, done.output
    assert "2 imported" in done.output
    again = ilaas(folder, "--organisation-default", "Lille", "--apply", "--json", url=dispatcher)
    assert {each["step"] for each in json.loads(again.stdout)["users"]} == {"known"}
    assert "sk-0123456789abcdef" not in dry.output + done.output + again.output


def test_the_command_fails_when_a_user_can_not_be_imported(dispatcher: str, tmp_path: Path) -> None:
    done = ilaas(tmp_path / "state", url=dispatcher)
    assert done.exit_code == 1
    assert "1 can't be imported" in done.output
