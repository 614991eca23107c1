"""Where a federation's state is, and the services that work on it: what the key, server and model commands share."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import getpass
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import structlog

from ilaas.adapters.addresses import check_public_url, system_resolve
from ilaas.adapters.secret import load_secret
from ilaas.adapters.sql import SqlStore
from ilaas.app.config import STATE_DIR, load_config
from ilaas.app.run_file import ops_url, read_run_file
from ilaas.app.settings import Settings
from ilaas.cli.output import say
from ilaas.core.errors import ConfigError, NotFound, StoreUnavailable
from ilaas.ports.store import Store
from ilaas.services.administration import Administration

DEFAULT_DIR = Path(".ilaas")
DEMO_DIR = DEFAULT_DIR / "demo"
MEMO = "served-with.json"
"""In the state folder: the configuration file that the gateway was last started with."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A state folder and what its gateway is configured with."""

    settings: Settings
    configured: bool
    """Whether the settings come from a file, so that the models are known."""

    @property
    def state_dir(self) -> Path:
        """The folder."""
        return self.settings.state_dir

    @property
    def has_store(self) -> bool:
        """Whether there is a database already, or one elsewhere."""
        return self.settings.store_url is not None or (self.state_dir / "ilaas.db").exists()


def find_place(state_dir: Path | None, config: Path | None, environ: Mapping[str, str] = os.environ) -> Place:
    """The place that the options and the environment mean. Raises ConfigError."""
    if not structlog.is_configured():  # else events are told on standard output, which holds results only
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    if config is not None:
        settings = load_config(config, environ)
        return Place(replace(settings, state_dir=state_dir) if state_dir else settings, configured=True)
    folder = state_dir or (Path(environ[STATE_DIR]) if environ.get(STATE_DIR) else _default_dir())
    memo = _memo(folder)
    if memo is None:
        return Place(Settings(state_dir=folder), configured=False)
    try:
        return Place(replace(load_config(Path(memo["config"]), environ), state_dir=folder), configured=True)
    except ConfigError as error:
        if memo["own_store"]:
            raise
        say(f"Note: the gateway's configuration file can't be used here: {error.message.splitlines()[0]}")
        return Place(Settings(state_dir=folder), configured=False)


def _default_dir() -> Path:
    """The demo's folder when it is the only one here."""
    if not (DEFAULT_DIR / "ilaas.db").exists() and (DEMO_DIR / "ilaas.db").exists():
        say(f"Working on the demo, whose state folder is {DEMO_DIR}.")
        return DEMO_DIR
    return DEFAULT_DIR


def _memo(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / MEMO).read_text())
        return {"config": found["config"], "own_store": found["own_store"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember_config(settings: Settings) -> None:
    """Note the configuration file in the state folder, so that commands given the folder alone know it."""
    if settings.config_path is None:
        return
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    memo = {"config": str(settings.config_path.resolve()), "own_store": settings.store_url is not None}
    draft = settings.state_dir / f"{MEMO}.part"
    draft.write_text(json.dumps(memo))
    draft.replace(settings.state_dir / MEMO)


@dataclass(frozen=True, slots=True)
class Office:
    """The opened store with the service that changes it."""

    place: Place
    store: Store
    admin: Administration
    actor: str


@contextlib.asynccontextmanager
async def office(place: Place, *, private_addresses: bool = False) -> AsyncIterator[Office]:
    """Open the store of a place."""
    place.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = load_secret(place.state_dir)
    store = SqlStore(place.settings.database_url, secret)
    allow = private_addresses or place.settings.allow_private_addresses
    check_url = partial(check_public_url, allow_private=allow, resolve=system_resolve)
    admin = Administration(store, secret.pepper, time.time, secrets.token_bytes, check_url)
    await store.open()
    try:
        before = await store.revision()
        yield Office(place, store, admin, actor())
        await _tell_gateway(place, store, before)
    finally:
        await store.close()


def work(place: Place, job: Callable[[Office], Awaitable[T]], *, private_addresses: bool = False) -> T:
    """Do something with the opened store, from a command."""

    async def run() -> T:
        async with office(place, private_addresses=private_addresses) as opened:
            return await job(opened)

    return asyncio.run(run())


async def check_organisation(opened: Office, name: str, param: str) -> None:
    """Raises NotFound for one that neither the store nor the file knows; without any, it is the first."""
    settings = opened.place.settings
    known = {each.name for each in settings.organisations}
    known |= {server.owner for model in settings.models for server in model.servers}
    known |= (await opened.store.directory()).organisations.keys()
    if not known or name in known:
        return
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)[:20]
    raise NotFound(
        f"There is no organisation '{name}'. Known: {', '.join(near)}{', …' if len(near) < len(known) else ''}. "
        f"A new one is made by 'ilaas organisation add {name}'.",
        param=param,
    )


def must_exist(place: Place) -> None:
    """Raises NotFound when nothing was ever kept there: the folder is probably the wrong one."""
    if not place.has_store:
        raise NotFound(f"There is no state in the folder '{place.state_dir}'. Name it with --state-dir or --config.")


def actor() -> str:
    """Who stands in the audit trail: the user of the operating system."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # KeyError: Python before 3.13, for a user id without a name
        return f"cli:{os.getuid()}"


# -- the running gateway -----------------------------------------------------------------------------------------------


async def _tell_gateway(place: Place, store: Store, before: int) -> None:
    """Have the gateway of this folder take a change over before the command ends; others do so within a second.

    `before` is the store's revision before the command. What was written is written: nothing here fails the command,
    which still has a secret to show, and a gateway that is not told reads the store by itself.
    """
    run = read_run_file(place.state_dir)
    if run is None:
        return
    with contextlib.suppress(httpx.HTTPError, StoreUnavailable):
        if await store.revision() != before:
            async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
                await http.post(f"{ops_url(run)}/follow")


def live_state(place: Place) -> dict[str, Any] | None:
    """The live state of the running gateway; None when none runs. Raises StoreUnavailable when it does not answer."""
    run = read_run_file(place.state_dir)
    if run is None:
        return None
    try:
        response = httpx.get(f"{ops_url(run)}/state", timeout=5.0, trust_env=False)  # no proxy to oneself
        response.raise_for_status()
        found: dict[str, Any] = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise StoreUnavailable(
            f"The gateway (process {run['pid']}) does not answer at {ops_url(run)}: {type(error).__name__}"
        ) from None
    return found


def choose(what: str, name: str, known: Iterable[str], remedy: str) -> str:
    """The name, when it is known. Raises NotFound with near names."""
    names = list(known)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(repr(candidate) for candidate in near)}?" if near else f" {remedy}"
    raise NotFound(f"There is no {what} '{name}'.{hint}")
