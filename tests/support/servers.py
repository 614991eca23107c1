"""Fixtures of real servers: one RabbitMQ and one PostgreSQL for the whole run, started when a test first asks."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ilaas.app.local import PrivatePostgres, PrivateRabbitMQ


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ilaas-servers-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def rabbitmq_server(servers_folder: Path) -> Iterator[PrivateRabbitMQ]:
    server = PrivateRabbitMQ(servers_folder / "rabbitmq")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def rabbitmq(rabbitmq_server: PrivateRabbitMQ) -> Iterator[PrivateRabbitMQ]:
    """The broker, running. A test may stop, kill, pause or restart it; afterwards it runs again.

    It is the same for all tests: use the fixture `namespace` in the names of queues and exchanges.
    """
    yield rabbitmq_server
    rabbitmq_server.resume()
    if not rabbitmq_server.running:
        rabbitmq_server.start()


@pytest.fixture
def namespace() -> str:
    """A prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def postgres_server(servers_folder: Path) -> Iterator[PrivatePostgres]:
    server = PrivatePostgres(servers_folder / "postgresql")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres(postgres_server: PrivatePostgres, namespace: str) -> Iterator[str]:
    """The URL (asyncpg) of an empty database. A test may stop or crash `postgres_server`; afterwards it runs again."""
    yield postgres_server.create_database(namespace)
    if not postgres_server.running:
        postgres_server.start()
    postgres_server.drop_database(namespace)
