"""The configuration file is followed: a good change is taken over whole, a bad one leaves everything as it is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from ilaas.app.config import load_config
from ilaas.app.config_watch import ConfigWatcher
from ilaas.app.settings import Settings
from ilaas.core.errors import ConfigError

SECRET = "sk-Very-Secret-4711"


def text(*names: str, head: str = "") -> str:
    return head + "models:\n" + "".join(f"- {{name: {name}}}\n" for name in names)


class Watched:
    """A watcher whose time passes only when `look` is called: each look is one poll."""

    def __init__(self, path: Path, **running: object) -> None:
        self.path = path
        self.applied: list[Settings] = []
        self.errors: list[ConfigError] = []
        self._ticks: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self.watcher = ConfigWatcher(
            path,
            lambda: load_config(path, {}),
            self.applied.append,
            self.errors.append,
            current=replace(load_config(path, {}), **running),
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        assert seconds <= 0.5
        due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ticks.put_nowait(due)
        await due

    async def look(self, times: int = 3) -> None:
        """Let the watcher look that often; on return it sleeps again."""
        for _ in range(times):
            (await self._ticks.get()).set_result(None)
        self._ticks.put_nowait(await self._ticks.get())

    async def reload(self) -> None:
        due = await self._ticks.get()
        self.watcher.reload_now()
        self._ticks.put_nowait(await self._ticks.get())
        assert due.cancelled()

    def names(self) -> list[list[str]]:
        return [[model.name for model in settings.models] for settings in self.applied]


@asynccontextmanager
async def watching(path: Path, **running: object) -> AsyncIterator[Watched]:
    structlog.reset_defaults()
    watched = Watched(path, **running)
    task = asyncio.create_task(watched.watcher.run())
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "ilaas.yaml"
    file.write_text(text("a"), "utf-8")
    return file


async def test_a_file_that_stays_the_same_is_not_applied_again(path: Path) -> None:
    async with watching(path) as watched:
        await watched.look()
        os.utime(path, (1, 1))
        await watched.look()
        assert watched.applied == []


async def test_a_file_written_in_place_is_taken_over_once(path: Path) -> None:
    async with watching(path) as watched:
        await watched.look()
        path.write_text(text("a", "b"), "utf-8")
        await watched.look(5)
        assert watched.names() == [["a", "b"]]


async def test_a_file_renamed_over_is_taken_over(path: Path) -> None:
    async with watching(path) as watched:
        new = path.with_suffix(".new")
        new.write_text(text("b"), "utf-8")
        new.replace(path)
        await watched.look()
        assert watched.names() == [["b"]]


async def test_a_change_of_the_same_length_and_time_is_seen_when_renamed_over(path: Path) -> None:
    before = path.stat()
    async with watching(path) as watched:
        await watched.look()
        new = path.with_suffix(".new")
        new.write_text(text("b"), "utf-8")
        os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
        new.replace(path)
        await watched.look()
        assert watched.names() == [["b"]]


async def test_the_swap_of_a_mounted_config_map_is_taken_over(tmp_path: Path) -> None:
    for version, name in (("v1", "a"), ("v2", "b")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "ilaas.yaml").write_text(text(name), "utf-8")
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "ilaas.yaml").symlink_to("..data/ilaas.yaml")
    async with watching(tmp_path / "ilaas.yaml") as watched:
        await watched.look()
        (tmp_path / "..tmp").symlink_to("v2")
        (tmp_path / "..tmp").replace(tmp_path / "..data")
        await watched.look()
        assert watched.names() == [["b"]]


async def test_a_file_is_not_read_while_it_is_being_written(path: Path) -> None:
    async with watching(path) as watched:
        await watched.look()
        path.write_text("", "utf-8")
        await watched.look(1)
        path.write_text(text("a", "b"), "utf-8")
        await watched.look(1)
        assert (watched.applied, watched.errors) == ([], [])
        await watched.look(1)
        assert watched.names() == [["a", "b"]]


async def test_a_bad_file_keeps_the_settings_and_is_told_once_without_secrets(path: Path) -> None:
    async with watching(path) as watched:
        with capture_logs() as logs:
            path.write_text(
                f"models:\n- name: a\n  servers: [{{url: http://x, token: {SECRET}, prot: {SECRET}}}]\n", "utf-8"
            )
            await watched.look(5)
        assert watched.applied == []
        assert len(watched.errors) == 1
        (line,) = [line for line in logs if line["event"] == "configuration_rejected"]
        assert f"{path}:3: unknown field 'prot'" in line["message"]
        assert SECRET not in str(logs)
        path.write_text(text("a", "c"), "utf-8")
        await watched.look()
        assert watched.names() == [["a", "c"]]


async def test_a_file_that_vanishes_keeps_the_settings_and_is_taken_over_when_it_is_back(path: Path) -> None:
    async with watching(path) as watched:
        await watched.look()
        path.unlink()
        await watched.look(5)
        assert (len(watched.errors), watched.applied) == (1, [])
        path.write_text(text("b"), "utf-8")
        await watched.look()
        assert watched.names() == [["b"]]


async def test_a_signal_reloads_at_once_though_the_file_is_the_same(path: Path) -> None:
    async with watching(path) as watched:
        await watched.look()
        await watched.reload()
        assert watched.names() == [["a"]]


async def test_what_changed_while_the_gateway_started_is_taken_over(path: Path) -> None:
    running = load_config(path, {}).models
    path.write_text(text("b"), "utf-8")
    async with watching(path, models=running) as watched:
        await watched.look(1)
        assert watched.names() == [["b"]]


async def test_settings_that_wait_for_a_restart_are_named(path: Path) -> None:
    path.write_text(text("a", head="port: 8001\n"), "utf-8")
    async with watching(path, port=9999) as watched:  # as the command line said
        await watched.look()
        with capture_logs() as logs:
            head = "port: 8002\nhost: h\nstate_dir: s\nstore: 'sqlite:///x'\nlimits: {max_body: 1MB}\n"
            path.write_text(text("b", head=head), "utf-8")
            await watched.look()
        (line,) = [line for line in logs if line["event"] == "configuration_needs_restart"]
        assert line["settings"] == ["state_dir", "host", "port", "limits", "store_url"]
        with capture_logs() as logs:
            path.write_text(text("c", head="port: 8001\n"), "utf-8")
            await watched.look()
        assert not [line for line in logs if line["event"] == "configuration_needs_restart"]
        assert watched.names() == [["b"], ["c"]]
