"""The demonstration: simulated sites, a gateway before them, keys to try, and load when it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ilaas.adapters.addresses import check_public_url, system_resolve
from ilaas.adapters.secret import load_secret
from ilaas.app import demo_speech
from ilaas.app.config import STATE_DIR, load_config
from ilaas.app.demo_federation import CHAT_MODELS, ORGANISATIONS, configuration
from ilaas.app.demo_folder import DemoFolder
from ilaas.app.demo_keys import KEYS, DemoKeys, traffic_key
from ilaas.app.demo_servers import DemoServers
from ilaas.app.observe import configure_logging
from ilaas.app.process import Run
from ilaas.app.run_file import Address
from ilaas.app.runtime import serve
from ilaas.app.settings import Settings
from ilaas.app.wiring import open_store
from ilaas.core.errors import ConfigError
from ilaas.services.administration import Administration
from ilaas.sim.traffic import LiveTraffic

PORT = 8000
OPS_PORT = 9464

WELCOME = """\
A federation runs: {url}/v1   (metrics: {ops_url}/metrics)

Keys, the same at each start (kept in {folder.keys}):
{keys}

Try it in another terminal:
  export OPENAI_BASE_URL={url}/v1
  export OPENAI_API_KEY={secret}
  curl -s $OPENAI_BASE_URL/models -H "Authorization: Bearer $OPENAI_API_KEY"
  curl -N $OPENAI_BASE_URL/chat/completions -H "Authorization: Bearer $OPENAI_API_KEY" \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "mistral-small", "stream": true, "messages": [{{"role": "user", "content": "Bonjour"}}]}}'

With the openai package (it reads the two variables above):
  from openai import OpenAI
  chat = {{"model": "mistral-small", "messages": [{{"role": "user", "content": "Bonjour"}}]}}
  for chunk in OpenAI().chat.completions.create(**chat, stream=True):
      print(chunk.choices[0].delta.content or "", end="")

{speech}Change {folder.config} and see it taken over; {logs}.
Ctrl-C ends all. '{command} --fresh' starts over.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """How the demo is started."""

    state_dir: Path
    port: int | None = None
    """None is that of the configuration file, which is 8000 at first."""
    fresh: bool = False
    traffic_users: int = 0
    """People in the load that the demo makes itself; 0 is no load."""
    plain: bool = False
    """No live view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A demo that runs."""

    options: DemoOptions
    folder: DemoFolder
    settings: Settings
    address: Address
    keys: Mapping[str, str]
    """Secret by name."""
    ops_urls: tuple[str, ...] = ()
    """Base URLs of metrics and live state of all parts, where there are several."""
    logs: str = ""
    """Where all parts log, where there are several."""

    @property
    def url(self) -> str:
        """Base URL of the gateway."""
        return f"http://127.0.0.1:{self.address.port}"

    @property
    def ops_url(self) -> str:
        """Base URL of metrics and live state."""
        return f"http://127.0.0.1:{self.address.ops_port}"

    def welcome(self) -> str:
        """What a newcomer needs: address, keys, and lines to paste."""
        return WELCOME.format(
            url=self.url,
            ops_url=self.ops_url,
            keys="\n".join(f"  {each.remark}\n    {self.keys[each.new.name]}" for each in KEYS),
            secret=self.keys[KEYS[0].new.name],
            folder=self.folder,
            logs=self.logs or f"the gateway logs to {self.folder.log}",
            command="ilaas demo --distributed" if self.logs else "ilaas demo",
            speech=demo_speech.welcome(self.settings, self.url),
        )


async def run_demo(options: DemoOptions, show: Callable[[Demo], Awaitable[None]]) -> None:
    """Run until SIGINT or SIGTERM, with `show` beside it. Raises ConfigError when it can't start."""
    folder = DemoFolder(options.state_dir)
    folder.check(fresh=options.fresh)
    if options.port is not None:
        check_free(options.port)
    folder.make(fresh=options.fresh)
    servers = DemoServers(folder.servers_log)
    try:
        settings = await _settings(options, folder, servers)
        keys = await demo_keys(settings, folder, traffic=bool(options.traffic_users))
        with folder.log.open("w") as log:
            configure_logging(json=True, stream=log)
            async with _gateway(settings) as running:
                demo = Demo(options=options, folder=folder, settings=settings, address=running.address, keys=keys)
                await until_view_ends(demo, running.run.stop, show, [running.task])
    finally:
        await servers.stop()


async def _settings(options: DemoOptions, folder: DemoFolder, servers: DemoServers) -> Settings:
    """Start the servers, write the configuration on the first start, and read it."""
    first = not folder.config.exists()
    if first:
        if options.port is None:
            check_free(PORT)
    elif options.port is None:
        check_free(settings_of(folder).port)
    ports = await servers.start(folder.kept_ports())
    folder.keep_ports(ports)
    if first:
        folder.config.write_text(configuration(ports, PORT if options.port is None else options.port, OPS_PORT))
    settings = settings_of(folder)
    if options.port is not None:
        settings = replace(settings, port=options.port)
    return settings if _is_free(settings.ops_port) else replace(settings, ops_port=0)


def settings_of(folder: DemoFolder) -> Settings:
    """The settings of the demo's configuration file."""
    return replace(load_config(folder.config, _environ()), state_dir=folder.path)


def _environ() -> dict[str, str]:
    """The demo's state is where its options say."""
    return {name: value for name, value in os.environ.items() if name != STATE_DIR}


async def demo_keys(settings: Settings, folder: DemoFolder, *, traffic: bool) -> dict[str, str]:
    """The demo's keys, made in the store where they are not there yet: secret by name."""
    store = open_store(settings)
    pepper = load_secret(settings.state_dir).pepper
    check_url = partial(check_public_url, allow_private=True, resolve=system_resolve)
    administration = Administration(store, pepper, time.time, secrets.token_bytes, check_url)
    await store.open()
    try:
        made = await DemoKeys(folder.keys, store, pepper, administration).ensure(traffic=traffic)
    finally:
        await store.close()
    await demo_speech.ensure_client(settings)
    return made


@dataclass(frozen=True, slots=True)
class _Running:
    """The gateway's task and what ends it."""

    task: asyncio.Task[None]
    run: Run
    address: Address


@contextlib.asynccontextmanager
async def _gateway(settings: Settings) -> AsyncIterator[_Running]:
    """A gateway in this process, listening; ended at the end. Raises what it failed with."""
    ready: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
    run = Run(ready=ready.set_result, environ=_environ())
    task = asyncio.create_task(serve(settings, run), name="gateway")
    try:
        waits: list[asyncio.Future[Any]] = [ready, task]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await task
            raise ConfigError("the gateway ended at once")
        yield _Running(task, run, ready.result())
    finally:
        run.stop.set()
        await task


async def until_view_ends(
    demo: Demo,
    stop: asyncio.Event,
    show: Callable[[Demo], Awaitable[None]],
    others: Sequence[asyncio.Future[None]] = (),
) -> None:
    """Show the federation, and load it, until it is told to stop or one of `others` ends.

    The load ends first, so that little is left to wait for. `stop` is set at the end.
    """
    view = asyncio.ensure_future(show(demo))
    stopped = asyncio.create_task(stop.wait())
    traffic = None
    if demo.options.traffic_users:
        by_organisation = {name: demo.keys[traffic_key(name).new.name] for name in ORGANISATIONS}
        traffic = LiveTraffic(demo.url, by_organisation, CHAT_MODELS, users=demo.options.traffic_users)
        traffic.start()
    try:
        waits: list[asyncio.Future[Any]] = [view, stopped, *others]
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if view in done:
            view.result()
    finally:
        stop.set()
        for task in (view, stopped):
            task.cancel()
        await asyncio.gather(view, stopped, return_exceptions=True)
        if traffic is not None:
            await traffic.stop()


def check_free(port: int) -> None:
    """Raises ConfigError when the port of this machine is taken."""
    if port and not _is_free(port):
        raise ConfigError(
            f"port {port} of this machine is taken; choose another with --port, such as --port {port + 10}"
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True
