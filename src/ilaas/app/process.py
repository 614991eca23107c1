"""What every process of the platform is made of: how it is told to run and to stop, its loops and its listeners."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import structlog
import uvicorn

from ilaas.app.run_file import Address
from ilaas.core.errors import ConfigError, StoreUnavailable

BACKLOG = 4096

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Run:
    """How to run: who is told that it is ready, and what ends it."""

    ready: Callable[[Address], None] = lambda _: None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    signals: bool = True
    """Handle SIGINT, SIGTERM and SIGHUP."""


class QuietServer(uvicorn.Server):
    """uvicorn without its own signal handling, since two servers share this process, and with fewer idle turns."""

    def __init__(self, config: uvicorn.Config) -> None:
        """As uvicorn's; end it by `end`."""
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Take no new connection, and end when those that are open have closed."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """A turn a second, for the date in the headers, where uvicorn takes ten to see that it should end."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1.0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


async def every(seconds: float, work: Callable[[], Awaitable[object]], *, first_s: float | None = None) -> None:
    """Do it again and again; one failure is logged and does not end the loop. `first_s` waits before the first."""
    failing = False
    await asyncio.sleep(seconds if first_s is None else first_s)
    while True:
        try:
            await work()
            failing = False
        except StoreUnavailable as error:
            if not failing:
                log.warning("store_unavailable", reason=error.message)
            failing = True
        except Exception:  # the loop must outlive any fault of its work: it is what ends deadlines and revocations
            log.exception("loop_failed", work=getattr(work, "__qualname__", "?"))
        await asyncio.sleep(seconds)


class Punctual:
    """Notes how late each of a loop's turns comes: a process may be stopped for seconds, or get no CPU."""

    WORTH_S = 1.0

    def __init__(self, every_s: float) -> None:
        """`every_s` is what the loop waits between two turns."""
        self._every_s = every_s
        self._last_s: float | None = None

    def late_s(self, now: float) -> float:
        """By how much this turn comes late; 0 when that is not worth a word."""
        last_s, self._last_s = self._last_s, now
        late_s = 0.0 if last_s is None else now - last_s - self._every_s
        return late_s if late_s >= self.WORTH_S else 0.0


def handle_signals(run: Run, reload: Callable[[], None] | None) -> None:
    """SIGINT and SIGTERM stop it; SIGHUP reads the configuration again, where there is one."""
    if not run.signals:
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, run.stop.set)
    if reload is not None:
        loop.add_signal_handler(signal.SIGHUP, reload)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ConfigError when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)  # before anybody is told the address; who connects early waits for the accept
    except OSError as error:
        listener.close()
        raise cannot_listen(host, port, error) from None
    listener.setblocking(False)
    return listener


def cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    """What is told of it, in the system's words: a library's own may stand in the error in their place."""
    known = error.errno is not None and error.errno > 0  # a name that is not found has a negative number
    reason = os.strerror(error.errno or 0) if known else error.strerror or error
    return ConfigError(f"can't listen on {host}:{port}: {reason}; choose another port, or 0 for a free one")
