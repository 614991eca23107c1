from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiormq
import asyncpg
import psutil
import pytest
from pamqp.commands import Basic

from ilaas.app.local import PrivatePostgres, PrivateRabbitMQ
from ilaas.app.local.child import Child, Program, free_ports, inherited
from ilaas.core.errors import ConfigError
from tests.support.processes import until


def plain(url: str) -> str:
    return url.replace("+asyncpg", "")


async def test_a_persistent_message_survives_a_restart_of_rabbitmq(rabbitmq: PrivateRabbitMQ, namespace: str) -> None:
    connection = await aiormq.connect(rabbitmq.url)
    channel = await connection.channel()
    await channel.queue_declare(namespace, durable=True)
    await channel.basic_publish(b"kept", routing_key=namespace, properties=Basic.Properties(delivery_mode=2))
    await connection.close()
    rabbitmq.restart()
    connection = await aiormq.connect(rabbitmq.url)
    got = await (await connection.channel()).basic_get(namespace, no_ack=True)
    assert got.body == b"kept"
    await connection.close()


async def test_a_killed_rabbitmq_comes_back_at_the_same_address(rabbitmq: PrivateRabbitMQ) -> None:
    connection = await aiormq.connect(rabbitmq.url)
    rabbitmq.kill()
    assert not rabbitmq.running
    with pytest.raises(ConnectionError):
        await aiormq.connect(rabbitmq.url)
    await connection.close()
    assert rabbitmq.start() == rabbitmq.url
    await (await aiormq.connect(rabbitmq.url)).close()


async def test_a_paused_rabbitmq_answers_nobody_and_goes_on_when_resumed(rabbitmq: PrivateRabbitMQ) -> None:
    assert rabbitmq.pid is not None
    rabbitmq.pause()
    until(lambda: psutil.Process(rabbitmq.pid).status() == psutil.STATUS_STOPPED, "a stopped process")
    with pytest.raises((TimeoutError, ConnectionError)):
        await asyncio.wait_for(aiormq.connect(rabbitmq.url), 0.3)
    rabbitmq.resume()
    connection = await asyncio.wait_for(aiormq.connect(rabbitmq.url), 10)
    assert not connection.is_closed
    await connection.close()


def test_rabbitmq_leaves_no_process_and_no_port_mapper_behind(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    server = PrivateRabbitMQ(tmp_path, management=True)
    try:
        server.start()
        assert "ilaas" in server.ctl("list_users")
        with pytest.raises(ConfigError, match="rabbitmqctl no_such_command failed"):
            server.ctl("no_such_command")
    finally:
        server.stop()
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline", "pid"])
        if process.pid not in before and str(tmp_path) in " ".join(process.info["cmdline"] or ())
    ]
    assert left == []
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


async def test_what_was_committed_survives_a_crash_of_postgresql(
    postgres: str, postgres_server: PrivatePostgres
) -> None:
    connection = await asyncpg.connect(plain(postgres))
    await connection.execute("CREATE TABLE kept (value text); INSERT INTO kept VALUES ('é')")
    postgres_server.crash()
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncpg.connect(plain(postgres))
    postgres_server.start()
    connection = await asyncpg.connect(plain(postgres))
    assert await connection.fetchval("SELECT value FROM kept") == "é"
    await connection.close()


async def test_postgresql_asks_for_its_password(postgres: str) -> None:
    name, _, place = plain(postgres).partition("@")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"{name}x@{place}")


def test_postgresql_keeps_its_data_for_another_process(tmp_path: Path) -> None:
    first = PrivatePostgres(tmp_path)
    try:
        first.start()
        first.create_database("mine")
    finally:
        first.stop()
    second = PrivatePostgres(tmp_path)
    try:
        second.start()
        with pytest.raises(ConfigError, match='"mine" already exists'):
            second.create_database("mine")
    finally:
        second.stop()


@pytest.fixture
async def parent(tmp_path: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A process that has started PostgreSQL and waits."""
    (tmp_path / "parent.py").write_text(
        "import sys, pathlib\n"
        "from ilaas.app.local import PrivatePostgres\n"
        "server = PrivatePostgres(pathlib.Path(sys.argv[1]))\n"
        "print(server.start(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "state")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    yield process
    process.kill()
    process.communicate()


async def test_a_private_server_dies_with_the_process_that_started_it(parent: subprocess.Popen[bytes]) -> None:
    assert parent.stdout is not None
    url = parent.stdout.readline().decode().strip()
    await (await asyncpg.connect(plain(url))).close()
    servers = psutil.Process(parent.pid).children(recursive=True)
    os.kill(parent.pid, signal.SIGKILL)
    until(
        lambda: all(not each.is_running() or each.status() == psutil.STATUS_ZOMBIE for each in servers),
        "the end of PostgreSQL and its helpers",
    )
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncpg.connect(plain(url))


def test_a_program_that_does_not_start_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    program = Program(
        name="Thing",
        command=("sh", "-c", "echo cannot open the gate; exit 3"),
        env=inherited(),
        cwd=tmp_path,
        log=tmp_path / "log.txt",
    )
    with pytest.raises(ConfigError, match=r"(?s)Thing ended at once.*cannot open the gate"):
        Child(program).wait_until(lambda: False, 30)


def test_free_ports_differ_and_lie_outside_those_of_outgoing_connections() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < first
