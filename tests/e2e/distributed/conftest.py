"""One platform for the whole folder: starting it takes seconds, and every test must leave it working."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ilaas.app.local import PrivatePostgres, PrivateRabbitMQ
from tests.support.platform import Platform


@pytest.fixture(scope="package")
def platform_of_all(
    rabbitmq_server: PrivateRabbitMQ, postgres_server: PrivatePostgres, servers_folder: Path
) -> Iterator[Platform]:
    url = postgres_server.create_database("platform")
    platform = Platform(servers_folder / "platform", rabbitmq_server, url, "platform")
    try:
        asyncio.run(platform.start())
        yield platform
    finally:
        asyncio.run(platform.stop())


@pytest.fixture
async def platform(platform_of_all: Platform) -> AsyncIterator[Platform]:
    """Everything runs at the beginning and at the end."""
    yield platform_of_all
    platform_of_all.rabbitmq.resume()
    platform_of_all.heal()


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """Lines that are shown though the test passes: how long it took to recover."""
    lines: list[str] = []
    yield lines
    with capsys.disabled():
        for line in lines:
            print(f"\n  {request.node.name}: {line}", end="")
