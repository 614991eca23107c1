"""The live view of a running federation, drawn in the terminal twice a second until Ctrl-C."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ilaas.cli.live_view import Rates, State, plain_line, render

__all__ = ["RateMeter", "Rates", "State", "http_fetch", "plain_line", "render", "run_live"]

_LEAST_LINES = 12
"""Shown even where something above takes all the screen."""


class RateMeter:
    """Rates over the last few seconds, so that the numbers can be read."""

    WINDOW_S = 4.0

    def __init__(self) -> None:
        self._seen: list[tuple[float, State]] = []

    def add(self, state: State, now: float) -> Rates:
        """Take a state; the rates since the oldest one in the window."""
        self._seen = [(at, seen) for at, seen in self._seen if now - at <= self.WINDOW_S] or self._seen[-1:]
        self._seen.append((now, state))
        at, oldest = self._seen[0]
        return Rates.between(oldest, state, now - at)


def http_fetch(client: httpx.AsyncClient, url: str) -> Callable[[], Awaitable[State]]:
    """A fetch of `GET /state` at the ops listener's base URL."""

    async def fetch() -> State:
        response = await client.get(f"{url}/state", timeout=2.0)
        response.raise_for_status()
        found: State = response.json()
        return found

    return fetch


async def run_live(
    fetch: Callable[[], Awaitable[State]],
    *,
    console: Console | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
    top: RenderableType | None = None,
) -> None:
    """Show the federation until cancelled (Ctrl-C). `top` stays above it, such as addresses and keys.

    Where the output isn't a terminal, one plain line every 5 s. A gateway that does not answer is said and waited for.
    """
    console = console or Console()
    meter = RateMeter()
    if not console.is_terminal:
        while True:
            state = await _fetched(fetch)
            if state is None:
                console.print("the gateway does not answer", highlight=False)
            else:
                console.print(plain_line(state, meter.add(state, clock())), highlight=False, soft_wrap=True)
            await sleep(5.0)
    with Live(console=console, auto_refresh=False, transient=False, vertical_overflow="crop") as live:
        while True:
            state = await _fetched(fetch)
            if state is None:
                view: RenderableType = Text("the gateway does not answer; waiting for it", style="bold red")
            else:
                height = console.height - (0 if top is None else len(console.render_lines(top)))
                view = render(state, console.width, meter.add(state, clock()), max(_LEAST_LINES, height))
            live.update(view if top is None else Group(top, view), refresh=True)
            await sleep(0.5)


async def _fetched(fetch: Callable[[], Awaitable[State]]) -> State | None:
    try:
        return await fetch()
    except (httpx.HTTPError, OSError, ValueError):
        return None
