"""The live states of several gateways and dispatchers as one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from ilaas.cli.live_view import State


def http_fetch_all(client: httpx.AsyncClient, urls: Sequence[str]) -> Callable[[], Awaitable[State]]:
    """A fetch of `GET /state` at the base URLs of all parts; those that don't answer are left out.

    Raises httpx.HTTPError when none answers.
    """

    async def one(url: str) -> State:
        response = await client.get(f"{url}/state", timeout=1.0)
        response.raise_for_status()
        found: State = response.json()
        return found

    async def fetch() -> State:
        answers = await asyncio.gather(*(one(url) for url in urls), return_exceptions=True)
        states = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not states:
            raise httpx.ConnectError("no part of the federation answers")
        return merged(states)

    return fetch


def merged(states: Sequence[State]) -> dict[str, Any]:
    """Counts are summed; of each model the first view counts, since gateways repeat what its dispatcher tells."""
    models: dict[str, Any] = {}
    for state in states:
        for view in state["models"]:
            models.setdefault(view["model"], view)
    return {
        "version": states[0]["version"],
        "uptime_s": max(state["uptime_s"] for state in states),
        "active": sum(state["active"] for state in states),
        "connections": sum(state["connections"] for state in states),
        "models": [models[name] for name in sorted(models)],
        "requests": _summed(states, "requests", ("model", "class", "outcome"), ("count",)),
        "tokens": _summed(states, "tokens", ("model", "class"), ("prompt", "completion")),
        "rejected": dict(sum((Counter(state["rejected"]) for state in states), Counter())),
    }


def _summed(states: Sequence[State], table: str, by: tuple[str, ...], what: tuple[str, ...]) -> list[dict[str, Any]]:
    sums: dict[tuple[str, ...], Counter[str]] = {}
    for state in states:
        for row in state[table]:
            total = sums.setdefault(tuple(row[name] for name in by), Counter())
            for name in what:
                total[name] += row[name]
    return [
        dict(zip(by, key, strict=True)) | {name: total[name] for name in what} for key, total in sorted(sums.items())
    ]
