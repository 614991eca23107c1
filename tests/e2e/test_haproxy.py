from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ilaas.app.local import PrivateHAProxy
from ilaas.app.local.child import free_ports
from ilaas.app.local.haproxy import CONFIGURATION
from ilaas.core.errors import ConfigError
from tests.support.patience import PATIENCE_S


@dataclass
class Gateway:
    """Looks like a gateway to a load balancer, and does as it is told by the path."""

    ready: bool = True
    port: int = 0
    heads: list[str] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if " /health/readiness" in head:
            writer.write(b"HTTP/1.1 %d -\r\ncontent-length: 0\r\n\r\n" % (200 if self.ready else 503))
            return
        self.heads.append(head)
        if "content-length: " in head:
            await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        if " /breaks" in head:
            writer.transport.abort()
        elif " /waits" in head:
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            self.left.set()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
            if " /stream" in head:
                await self.go_on.wait()
            writer.write(b"3\r\ntwo\r\n0\r\n\r\n")


@dataclass
class Setup:
    balancer: PrivateHAProxy
    gateways: list[Gateway]

    async def send(self, method: str, path: str, body: bytes = b"", headers: str = "") -> asyncio.StreamReader:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.balancer.port)
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        self.writer.write(head.encode() + body)
        return self.reader

    async def states(self, **wanted: bool) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.balancer.states() != wanted:
                await asyncio.sleep(0.05)

    @property
    def heads(self) -> list[str]:
        return [head for gateway in self.gateways for head in gateway.heads]


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    gateways = [Gateway(), Gateway()]
    async with contextlib.AsyncExitStack() as running:
        for gateway in gateways:
            server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
            running.callback(server.close)
            gateway.port = server.sockets[0].getsockname()[1]
        balancer = PrivateHAProxy(tmp_path)
        running.push_async_callback(asyncio.to_thread, balancer.stop)
        await asyncio.to_thread(balancer.start, {"a": gateways[0].port, "b": gateways[1].port})
        setup = Setup(balancer, gateways)
        await setup.states(a=True, b=True)
        yield setup
        setup.writer.close()


async def read(reader: asyncio.StreamReader, until: bytes) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await reader.readuntil(until)


async def test_a_chunk_reaches_the_client_before_the_next_one_is_written(setup: Setup) -> None:
    reader = await setup.send("POST", "/stream", b"x" * 100_000)
    await read(reader, b"one\r\n")
    for gateway in setup.gateways:
        gateway.go_on.set()
    assert await read(reader, b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"


async def test_a_client_that_leaves_while_it_waits_is_known_to_the_gateway(setup: Setup) -> None:
    await setup.send("POST", "/waits", b"x")
    async with asyncio.timeout(PATIENCE_S):
        while not setup.heads:
            await asyncio.sleep(0.01)
        setup.writer.close()
        await next(gateway for gateway in setup.gateways if gateway.heads).left.wait()


async def test_a_post_whose_connection_broke_is_not_sent_again(setup: Setup) -> None:
    head = await read(await setup.send("POST", "/breaks", b"x"), b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert len(setup.heads) == 1


async def test_a_get_whose_connection_broke_is_sent_again(setup: Setup) -> None:
    await read(await setup.send("GET", "/breaks"), b"\r\n\r\n")
    assert len(setup.heads) > 1


async def test_a_gateway_that_is_not_ready_gets_nothing_new_but_ends_its_streams(setup: Setup) -> None:
    reader = await setup.send("POST", "/stream", b"x")
    await read(reader, b"one\r\n")
    name, busy = next((name, each) for name, each in zip("ab", setup.gateways, strict=True) if each.heads)
    busy.ready = False
    await setup.states(**{each: each != name for each in "ab"})
    first = setup.writer
    for _ in range(4):
        assert (await read(await setup.send("POST", "/short", b"x"), b"two")).startswith(b"HTTP/1.1 200 ")
    assert len(busy.heads) == 1
    busy.go_on.set()
    assert b"two" in await read(reader, b"0\r\n\r\n")
    first.close()
    busy.ready = True
    await setup.states(a=True, b=True)


async def test_no_ready_gateway_is_an_error_of_the_api_with_a_time_to_try_again(setup: Setup) -> None:
    for gateway in setup.gateways:
        gateway.ready = False
    await setup.states(a=False, b=False)
    reader = await setup.send("POST", "/v1/chat/completions", b"x", "connection: close\r\n")
    head = await read(reader, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 2\r\n" in head.lower()
    assert json.loads(await reader.read())["error"]["code"] == "no_gateway"


async def test_the_gateway_is_told_the_clients_address_and_not_what_the_client_says_it_is(setup: Setup) -> None:
    await read(await setup.send("GET", "/short", headers="X-Forwarded-For: 6.6.6.6\r\n"), b"two")
    assert "6.6.6.6" not in setup.heads[0]
    assert "x-forwarded-for: 127.0.0.1\r\n" in setup.heads[0]
    assert "x-forwarded-proto: http\r\n" in setup.heads[0]


async def test_long_headers_pass_and_longer_ones_are_refused(setup: Setup) -> None:
    passed = await read(await setup.send("GET", "/short", headers=f"x-long: {'y' * 30_000}\r\n"), b"\r\n")
    assert passed.startswith(b"HTTP/1.1 200 ")
    refused = await read(await setup.send("GET", "/short", headers=f"x-long: {'y' * 33_000}\r\n"), b"\r\n")
    assert refused.startswith(b"HTTP/1.1 400 ")


async def test_the_log_has_the_path_and_nothing_that_may_be_secret(setup: Setup) -> None:
    await read(await setup.send("GET", "/short?key=hidden", headers="authorization: Bearer hidden\r\n"), b"two")
    async with asyncio.timeout(PATIENCE_S):  # HAProxy writes the line when the connection's work is done
        while " GET /short 200 " not in (log := setup.balancer.log.read_text()):
            await asyncio.sleep(0.02)
    setup.balancer.stop()
    assert "hidden" not in log


def test_the_example_of_a_site_is_valid_once_it_has_a_certificate(tmp_path: Path) -> None:
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert haproxy is not None
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"),
            *("-keyout", str(tmp_path / "x.pem.key"), "-out", str(tmp_path / "x.pem")),
        ],
        check=True,
        capture_output=True,
    )
    site = (CONFIGURATION.parent / "site.cfg").read_text().replace("/etc/haproxy/certs/", f"{tmp_path}/x.pem")
    (tmp_path / "site.cfg").write_text(site)
    command = [haproxy, "-c", "-f", str(CONFIGURATION), "-f", str(tmp_path / "site.cfg")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"ILAAS_HAPROXY_SOCKET": f"{tmp_path}/socket"}
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_without_its_configuration_the_error_says_what_is_missing(tmp_path: Path) -> None:
    balancer = PrivateHAProxy(tmp_path, configuration=tmp_path / "none.cfg")
    with pytest.raises(ConfigError, match=r"none\.cfg is missing"):
        balancer.start({"a": free_ports(1)[0]})
