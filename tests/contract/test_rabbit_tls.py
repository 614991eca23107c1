"""`amqps://`: the broker's certificate is checked. TLS ends at a proxy before a real RabbitMQ."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ilaas.adapters.rabbit.broker import RabbitBroker
from ilaas.adapters.rabbit.topology import Topology
from ilaas.app.local import PrivateRabbitMQ


def certificate(folder: Path) -> tuple[Path, Path]:
    """Of `localhost`, signed by itself: the file with the certificate, and the one with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "certificate.pem", folder / "key.pem"
    public.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return public, private


class TlsProxy:
    """Ends TLS and passes on to a port of this machine, on a thread of its own."""

    def __init__(self, target: int, public: Path, private: Path) -> None:
        self._target = target
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(public, private)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port: int = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        return int(server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer), return_exceptions=True)

    @staticmethod
    async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


@pytest.fixture
def tls(rabbitmq: PrivateRabbitMQ, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The broker's URL over TLS without the certificate, and the certificate."""
    public, private = certificate(tmp_path)
    proxy = TlsProxy(rabbitmq.port, public, private)
    user = rabbitmq.url.removeprefix("amqp://").partition("@")[0]
    yield f"amqps://{user}@localhost:{proxy.port}/", public
    proxy.close()


async def connected(url: str, namespace: str, within_s: float) -> bool:
    broker = RabbitBroker(url, f"{namespace}-g", time.monotonic, Topology(namespace))
    running = asyncio.create_task(broker.run())
    end_s = time.monotonic() + within_s
    while not broker.connected and time.monotonic() < end_s:
        await asyncio.sleep(0.01)
    found = broker.connected
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return found


async def test_a_broker_is_reached_over_tls(tls: tuple[str, Path], namespace: str) -> None:
    url, trusted = tls
    assert await connected(f"{url}?cafile={trusted}", namespace, 20.0)


async def test_a_broker_whose_certificate_nobody_vouches_for_is_not_talked_to(
    tls: tuple[str, Path], namespace: str
) -> None:
    assert not await connected(tls[0], namespace, 2.0)
