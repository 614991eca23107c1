"""Follows the configuration file: a change is taken over whole, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import fields
from pathlib import Path

import structlog

from ilaas.app.settings import Settings
from ilaas.core.errors import ConfigError

POLL_S = 0.5

TAKEN_OVER = frozenset({"models", "organisations", "sites", "default_policy", "warnings", "config_path"})
"""What a running gateway takes over. A change of anything else waits for a restart, and is announced."""

Fingerprint = tuple[int, int, int, int]

log = structlog.get_logger()


class ConfigWatcher:
    """Reloads the file when its content changes: written in place, renamed over, or swapped behind a symbolic link.

    A file that is wrong keeps the settings as they are: `on_error` is called, and `configuration_rejected` is logged.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[], Settings],
        apply: Callable[[Settings], None],
        on_error: Callable[[ConfigError], None] | None = None,
        *,
        current: Settings | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`load` reads the file and raises ConfigError; `apply` is called in the event loop; `current` is what runs."""
        self._path = path
        self._load = load
        self._apply = apply
        self._on_error = on_error
        self._current = current
        self._sleep = sleep
        self._from_file: Settings | None = None
        """As the file said first, without the command line: what a restart would change is measured against it."""
        self._digest: bytes | None = None
        self._seen: Fingerprint | None = None
        self._handled: Fingerprint | None = None
        self._wanted = asyncio.Event()

    def reload_now(self) -> None:
        """Reload at the next turn of the event loop, changed or not. For a signal handler of the loop."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled. What changed between the start of the gateway and now is taken over first."""
        await self._reload()
        while True:
            await self._pause()
            if self._wanted.is_set():
                self._wanted.clear()
                await self._reload()
            elif await asyncio.to_thread(self._changed):
                await self._reload()

    async def _pause(self) -> None:
        """Until it is time to look again, or `reload_now` was called."""
        waits = {asyncio.ensure_future(self._sleep(POLL_S)), asyncio.ensure_future(self._wanted.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _fingerprint(self) -> Fingerprint | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)

    def _changed(self) -> bool:
        """Whether there is new content, the same at two looks: a file is not read while it is being written."""
        before, self._seen = self._seen, self._fingerprint()
        if self._seen != before or self._seen == self._handled:
            return False
        self._handled = self._seen
        return self._content() != self._digest

    def _content(self) -> bytes | None:
        """A digest of the content; None when there is no file to read."""
        try:
            return hashlib.sha256(self._path.read_bytes()).digest()
        except OSError:
            return None

    def _read(self) -> Settings:
        self._seen = self._handled = self._fingerprint()
        self._digest = self._content()
        return self._load()

    async def _reload(self) -> None:
        try:
            settings = await asyncio.to_thread(self._read)
        except ConfigError as error:
            log.error("configuration_rejected", path=str(self._path), message=error.message)  # noqa: TRY400 - no traceback
            if self._on_error is not None:
                self._on_error(error)
            return
        if self._from_file is None:
            self._from_file = settings
            if self._current is not None and _same(self._current, settings):
                return
        later = _changed_names(self._from_file, settings)
        self._apply(settings)
        log.info("configuration_applied", path=str(self._path), models=len(settings.models))
        for warning in settings.warnings:
            log.warning("configuration_doubtful", message=warning)
        if later:
            log.warning("configuration_needs_restart", path=str(self._path), settings=later)


def _same(left: Settings, right: Settings) -> bool:
    return (left.models, left.organisations, left.sites) == (right.models, right.organisations, right.sites)


def _changed_names(left: Settings, right: Settings) -> list[str]:
    names = [spec.name for spec in fields(Settings) if spec.name not in TAKEN_OVER]
    return [name for name in names if getattr(left, name) != getattr(right, name)]
