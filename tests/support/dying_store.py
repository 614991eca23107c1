"""A store that its worker loses at a chosen write: as when the worker is killed there, or the database fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ilaas.core.errors import StoreUnavailable
from ilaas.ports.enrichment import EnrichmentStore

WRITES = ("take_job", "put_parts", "finish", "fail", "release", "take_notice", "notice_done", "notice_later")


class DyingStore:
    """Counts the writes that do something. At the chosen one it falls silent for ever, or fails once."""

    def __init__(
        self, store: EnrichmentStore, at: int | None = None, *, after: bool = False, fails: bool = False
    ) -> None:
        """`after`: the write itself is done, and its caller never learns of it."""
        self._store = store
        self._at, self._after, self._fails = at, after, fails
        self.writes: list[str] = []
        self.dead = asyncio.Event()
        self.buried = asyncio.Event()
        """Set at the end of a test, so that what still waits comes to its end."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return self._counted(name, method) if name in WRITES else self._plain(method)

    def _plain(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **named: Any) -> Any:
            await self._alive()
            return await method(*args, **named)

        return call

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **named: Any) -> Any:
            await self._alive()
            if self._is_due(name) and not self._after:
                await self._die(name)
            result = await method(*args, **named)
            if result is None and name in {"take_job", "take_notice"}:
                return None
            if self._is_due(name) and self._after:
                await self._die(name)
            self.writes.append(name)
            return result

        return call

    def _is_due(self, name: str) -> bool:
        return self._at is not None and len(self.writes) == self._at

    async def _die(self, name: str) -> None:
        if self._fails:
            self._at = None
            raise StoreUnavailable("The database does not answer.")
        self.dead.set()
        await self._alive()

    async def _alive(self) -> None:
        if self.dead.is_set():
            await self.buried.wait()
            raise StoreUnavailable("It is dead.")
