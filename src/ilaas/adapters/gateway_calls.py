"""Calls to the gateway's own API by its services, each with the key of the project that it is done for.

What goes through the gateway is dispatched, limited and metered like everybody's requests.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from ilaas.core import errors
from ilaas.core.errors import IlaasError, Unauthenticated, UpstreamFailed, UpstreamInvalid
from ilaas.ports.speech import Billed

_NEW_KEY_S = 0.5
_NEW_KEY_TRIES = 12
"""Gateways learn of a new key within a second; a loaded machine takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """How patient calls are."""

    tries: int = 4
    pause_s: float = 1.0
    """Before the second try, when the gateway says nothing of it; doubled before each further one."""
    longest_pause_s: float = 20.0
    """Asked to wait longer than this, the caller is told, and comes back later."""
    answer_s: float = 7 * 3600.0
    """For one answer: batch requests may wait in the queue for hours."""


def _error_classes(root: type[IlaasError]) -> dict[str, type[IlaasError]]:
    found: dict[str, type[IlaasError]] = {}
    for kind in root.__subclasses__():
        found |= {kind.code: kind} | _error_classes(kind)
    return found


_BY_CODE: Mapping[str, type[IlaasError]] = _error_classes(errors.IlaasError)


class GatewayCalls:
    """HTTP with retries while the gateway is busy, and errors as ours."""

    def __init__(
        self,
        url: str,
        secret_of: Callable[[Billed], Awaitable[str]],
        options: CallOptions | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`url` without `/v1`; `secret_of` gives the key of a project."""
        self._secret_of = secret_of
        self._options = options or CallOptions()
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=httpx.Timeout(self._options.answer_s, connect=10.0),
            transport=transport
            or httpx.AsyncHTTPTransport(
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30.0),
                # A gateway whose machine is gone must be noticed while the answer is waited for.
                socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
            ),
        )

    async def get(self, path: str, billed: Billed) -> dict[str, Any]:
        """A JSON object. Raises IlaasError."""
        return await self._call("GET", path, billed, dict)

    async def post(self, path: str, billed: Billed, body: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Send what `body` makes, anew for each try, as httpx's arguments; answers a JSON object. Raises IlaasError."""
        return await self._call("POST", path, billed, body)

    async def _call(
        self, method: str, path: str, billed: Billed, body: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        options, pause_s, tried, refused = self._options, self._options.pause_s, 0, 0
        headers = {
            "Authorization": f"Bearer {await self._secret_of(billed)}",
            "X-Ilaas-Class": "interactive" if billed.interactive else "batch",
        }
        while True:
            error = await self._once(method, path, headers, body)
            if isinstance(error, dict):
                return error
            if isinstance(error, Unauthenticated) and refused < _NEW_KEY_TRIES:
                refused += 1
                await self._sleep(_NEW_KEY_S)
                continue
            tried += 1
            wait_s = pause_s if error.retry_after_s is None else error.retry_after_s
            if not error.retryable or tried >= options.tries or wait_s > options.longest_pause_s:
                raise error
            await self._sleep(wait_s)
            pause_s *= 2

    async def _once(
        self, method: str, path: str, headers: Mapping[str, str], body: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any] | IlaasError:
        try:
            response = await self._client.request(method, path, headers=dict(headers), **body())
        except httpx.TransportError as error:
            return UpstreamFailed(f"The gateway can't be reached ({type(error).__name__}).")
        if response.status_code != 200:
            return _error(response)
        try:
            tree = response.json()
        except ValueError:
            return UpstreamInvalid("The model's server answered something that is not JSON.")
        return tree if isinstance(tree, dict) else UpstreamInvalid("The model's server did not answer a JSON object.")

    async def close(self) -> None:
        """Let go of every connection."""
        await self._client.aclose()


class ServerRefused(errors.InvalidRequest):
    """A model's server says 400 in its own words, which may quote what was sent: they are shown and logged nowhere."""

    code = "server_refused"

    def __init__(self, words: str) -> None:
        super().__init__("The model's server refused the request as invalid.")
        self.words = words
        """For finding out what it does not support."""


def _error(response: httpx.Response) -> IlaasError:
    """What the gateway said, as the error it was there; of servers' own bodies the status alone is told."""
    told: Any = None
    try:
        tree = response.json()
        told = tree.get("error", tree) if isinstance(tree, dict) else None
    except ValueError:
        pass
    told = told if isinstance(told, dict) else {}
    message = str(told.get("message") or told.get("detail") or "")
    kind = _BY_CODE.get(str(told.get("code")))
    if kind is None or kind.status != response.status_code or kind is errors.InvalidRequest:
        kind = _BY_STATUS.get(response.status_code, UpstreamFailed)
        if response.status_code in _INVALID:
            return ServerRefused(message)
        message = f"The model's server answered with HTTP status {response.status_code}."
    wait = response.headers.get("retry-after", "")
    return kind(message, retry_after_s=float(wait) if wait.isdigit() else None)


_INVALID = frozenset({400, 405, 415, 422})
_BY_STATUS: Mapping[int, type[IlaasError]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.ModelNotFound,
    413: errors.BodyTooLarge,
    429: errors.RateLimited,
    503: errors.NoServer,
    504: errors.FirstTokenTimeout,
}
