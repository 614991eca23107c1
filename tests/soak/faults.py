"""What is done to the parts, one at a time and healed before the next, by a seed."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ilaas.app.local import PrivatePostgres
from ilaas.core.errors import ConfigError
from tests.support.platform import Platform, beside

NO_SERVER = "error no_server_available"
NO_ERROR: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    name: str
    longest_s: float
    """How long the part may be away, at most; 0 where its own restart says so."""
    errors: frozenset[str]
    """What clients may see of it beside answers."""
    act: str
    """Which of the acts below, and on what."""


KINDS: tuple[Kind, ...] = (
    Kind("dispatcher killed", 5.0, NO_ERROR, "dispatcher kill"),
    Kind("dispatcher paused", 12.0, frozenset({NO_SERVER}), "dispatcher pause"),
    Kind("dispatcher restarted", 0.0, NO_ERROR, "dispatcher restart"),
    Kind("gateway killed", 5.0, frozenset({"cut", "error bad_gateway"}), "gateway kill"),
    Kind("gateway paused", 12.0, NO_ERROR, "gateway pause"),
    Kind("gateway restarted", 0.0, NO_ERROR, "gateway restart"),
    Kind("server killed", 6.0, NO_ERROR, "server kill"),
    Kind("server paused", 8.0, NO_ERROR, "server pause"),
    Kind("broker killed", 5.0, frozenset({NO_SERVER}), "broker kill"),
    Kind("broker paused", 12.0, frozenset({NO_SERVER}), "broker pause"),
    Kind("broker restarted", 0.0, frozenset({NO_SERVER}), "broker restart"),
    Kind("database killed", 10.0, NO_ERROR, "database kill"),
)


@dataclass(slots=True)
class Struck:
    """One fault that was done; times by the monotonic clock."""

    kind: Kind
    part: str
    began_s: float
    healed_s: float = 0.0
    """The part was there again: started and listening, or going on."""


class Faults:
    """Does them until told to stop."""

    def __init__(self, platform: Platform, database: PrivatePostgres, seed: int, kinds: tuple[Kind, ...]) -> None:
        self.struck: list[Struck] = []
        self.unhealed: list[str] = []
        """Parts that did not come back as they should."""
        self._platform = platform
        self._database = database
        self._random = random.Random(seed)
        self._kinds = kinds
        self._deck: list[Kind] = []
        self._acts: Mapping[str, Callable[[str, float], Awaitable[None]]] = {
            "kill": self._kill,
            "pause": self._pause,
            "restart": self._restart,
        }

    async def go_on(self, until_s: float, wait_s: tuple[float, float]) -> None:
        """One after the other, each healed; the last one well before the end."""
        while True:
            pause_s = self._random.uniform(*wait_s)
            if time.monotonic() + pause_s > until_s:
                return
            await asyncio.sleep(pause_s)
            await self._strike()

    async def _strike(self) -> None:
        if not self._deck:  # each kind comes equally often
            self._deck = self._random.sample(self._kinds, len(self._kinds))
        kind = self._deck.pop()
        what, act = kind.act.split()
        away_s = self._random.uniform(1.0, max(1.0, kind.longest_s))
        part = await self._choose(what)
        struck = Struck(kind, part, time.monotonic())
        self.struck.append(struck)
        try:
            await self._acts[act](part, away_s)
        except (AssertionError, ConfigError) as error:
            self.unhealed.append(f"{kind.name}: {part} did not come back: {error}")
            print(self.unhealed[-1], flush=True)
        struck.healed_s = time.monotonic()
        took_s = struck.healed_s - struck.began_s
        print(f"{time.strftime('%H:%M:%S')}  {kind.name}: {part}, there again after {took_s:.1f} s", flush=True)

    async def _choose(self, what: str) -> str:
        """The owner where a dispatcher is meant; else any."""
        platform = self._platform
        if what == "dispatcher":
            for _ in range(100):
                owner = await asyncio.to_thread(platform.owner)
                if owner is not None:
                    return owner
                await asyncio.sleep(0.2)
            raise SystemExit("no dispatcher owns the model for 20 s")
        if what == "gateway":
            return self._random.choice([part.name for part in platform.cluster.gateways])
        if what == "server":
            return self._random.choice(list(platform.servers))
        return what

    async def _kill(self, part: str, away_s: float) -> None:
        platform = self._platform
        if part == "broker":
            await beside(platform.rabbitmq.kill)
        elif part == "database":
            await beside(self._database.crash)
        elif part in platform.servers:
            await beside(lambda: platform.kill_server(part))
        else:
            await beside(platform.part(part).kill)
        await asyncio.sleep(away_s)
        if part == "broker":
            await beside(platform.rabbitmq.start)
        elif part == "database":
            await beside(self._database.start)
        elif part in platform.servers:
            await beside(lambda: platform.start_server(part))
        else:
            await beside(lambda: platform.start_again(part))
            await self._taken_in(part)

    async def _pause(self, part: str, away_s: float) -> None:
        platform = self._platform
        if part == "broker":
            stop, resume = platform.rabbitmq.pause, platform.rabbitmq.resume
        else:
            child = platform.servers[part] if part in platform.servers else platform.part(part).child
            stop, resume = partial(child.send, signal.SIGSTOP), partial(child.send, signal.SIGCONT)
        stop()
        try:
            await asyncio.sleep(away_s)
        finally:
            resume()
        await self._taken_in(part)

    async def _restart(self, part: str, _away_s: float) -> None:
        platform = self._platform
        if part == "broker":
            await beside(platform.rabbitmq.restart)
        else:
            await beside(lambda: platform.cluster.restart(part))
            await self._taken_in(part)

    async def _taken_in(self, part: str) -> None:
        """A gateway is there when HAProxy sends it requests."""
        if any(part == each.name for each in self._platform.cluster.gateways):
            await self._platform.until(lambda: self._platform.haproxy.states()[part], within_s=60.0)
