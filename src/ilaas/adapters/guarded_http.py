"""HTTP to addresses that others gave (media, webhooks). It never reaches into the gateway's own network.

A host is resolved and checked at each connection, redirects included, and the connection goes to the very addresses
that were checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urljoin

import httpcore

from ilaas import __version__
from ilaas.adapters.addresses import check_form, public_addresses, system_resolve
from ilaas.core.errors import InvalidRequest

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardOptions:
    """What may be called, and how long it may take."""

    allow_private: bool = False
    """Also addresses of private networks and of this machine: for tests, and for members on one campus network."""
    verify_tls: bool = True
    connect_s: float = 10.0
    idle_s: float = 60.0
    """Between two pieces of an answer."""
    max_redirects: int = 5
    resolve: Callable[[str, int], Sequence[str]] = field(default=system_resolve)


class UnreachableError(Exception):
    """No connection: nothing of the request was sent."""


class BrokenOffError(Exception):
    """The connection failed after it was made."""


@dataclass(frozen=True, slots=True)
class GuardedAnswer:
    """The head of an answer, and its body as it comes."""

    url: str
    """After redirects."""
    status: int
    headers: dict[str, str]
    """By their names in small letters; of equal ones the last."""
    body: AsyncIterator[bytes]


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only."""

    def __init__(self, options: GuardOptions) -> None:
        self._options = options
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As httpcore wants it."""
        options = self._options
        addresses = await asyncio.to_thread(
            lambda: public_addresses(host, port, allow_private=options.allow_private, resolve=self._resolve)
        )
        last: Exception | None = None
        for address in addresses:
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout=timeout, local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise httpcore.ConnectError(str(last))

    def _resolve(self, host: str, port: int) -> Sequence[str]:
        """A name server may be away for a moment: that says nothing about the address, so it is no refusal."""
        try:
            return self._options.resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"the host '{host}' does not resolve.") from error

    async def sleep(self, seconds: float) -> None:
        """As httpcore wants it."""
        await self._inner.sleep(seconds)


class GuardedHttp:
    """A client without cookies, proxies or credentials. Connections are not kept: calls are rare and far between."""

    def __init__(self, options: GuardOptions | None = None) -> None:
        self._options = options or GuardOptions()
        context = ssl.create_default_context()
        if not self._options.verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context, network_backend=_Backend(self._options), max_keepalive_connections=0
        )

    @contextlib.asynccontextmanager
    async def send(
        self, method: str, url: str, headers: dict[str, str], content: bytes = b""
    ) -> AsyncIterator[GuardedAnswer]:
        """One request; redirects are followed (a POST those only that keep it one), each checked like the first.

        Raises InvalidRequest for addresses that may not be called, UnreachableError, BrokenOffError.
        """
        for _ in range(self._options.max_redirects + 1):
            check_form(url)
            async with self._once(method, url, headers, content) as answer:
                target = answer.headers.get("location")
                follows = answer.status in ({307, 308} if content else _REDIRECTS)
                if not (follows and target):
                    yield answer
                    return
                url = urljoin(url, target)
        raise InvalidRequest("The field 'url' leads to too many redirects. Give the address of the file.", param="url")

    @contextlib.asynccontextmanager
    async def _once(
        self, method: str, url: str, headers: dict[str, str], content: bytes
    ) -> AsyncIterator[GuardedAnswer]:
        options = self._options
        fields: dict[bytes | str, bytes | str] = {
            "User-Agent": f"ilaas/{__version__}",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        fields.update(headers)
        timeout = {"connect": options.connect_s, "read": options.idle_s, "write": options.idle_s, "pool": None}
        # The path as httpcore wants it: a fragment is never sent.
        stream = self._pool.stream(
            method, url.partition("#")[0], headers=fields, content=content or None, extensions={"timeout": timeout}
        )
        with _translated():
            async with stream as response:
                read = response.aiter_stream()
                yield GuardedAnswer(
                    url,
                    response.status,
                    {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers},
                    read,
                )

    async def close(self) -> None:
        """Let go of every connection."""
        await self._pool.aclose()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.UnsupportedProtocol) as error:
        raise UnreachableError(str(error) or type(error).__name__) from error
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        raise BrokenOffError(str(error) or type(error).__name__) from error
