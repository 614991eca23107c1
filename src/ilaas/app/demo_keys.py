"""The demo's keys: made on its first start, kept in a file that only its owner can read, and shown again."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from ilaas.app.demo_federation import CONSUMER, ORGANISATIONS
from ilaas.core import keys
from ilaas.core.quota.limits import Limits
from ilaas.core.values import RequestClass
from ilaas.ports.store import Store
from ilaas.services.administration import Administration, NewKey

_ACTOR = "demo"


@dataclass(frozen=True, slots=True)
class DemoKey:
    """One key of the demo and what it shows."""

    new: NewKey
    remark: str


KEYS = (
    DemoKey(
        NewKey(organisation="univ-grenoble-alpes", project="climate", name="researcher"),
        "a researcher of univ-grenoble-alpes, which owns grenoble-h200 and goes first there",
    ),
    DemoKey(
        NewKey(organisation=CONSUMER, project="teaching", name="student", limits=Limits(requests_per_minute=60)),
        f"a student of {CONSUMER}, which owns no server; 60 requests a minute",
    ),
    DemoKey(
        NewKey(organisation="univ-lille", project="corpus", name="nightly", classes=frozenset({RequestClass.BATCH})),
        "a nightly job of univ-lille, for batch only: it takes what others leave",
    ),
)


def traffic_key(organisation: str) -> DemoKey:
    """The key with which the demo's own load comes from an organisation."""
    return DemoKey(NewKey(organisation=organisation, project="demo", name=f"traffic-{organisation}"), "")


class DemoKeys:
    """The keys' secrets, in a file and in the store."""

    def __init__(self, path: Path, store: Store, pepper: bytes, administration: Administration) -> None:
        self._path = path
        self._store = store
        self._pepper = pepper
        self._administration = administration

    async def ensure(self, *, traffic: bool) -> dict[str, str]:
        """Secret by name; what is missing, expired or revoked is made anew."""
        secrets = read_keys(self._path)
        wanted = [*KEYS, *(traffic_key(name) for name in ORGANISATIONS if traffic)]
        live = {key.digest: key for key in await self._administration.list_keys() if key.usable_at(time.time())}
        for each in wanted:
            name = each.new.name
            if name in secrets and keys.digest(secrets[name].encode(), self._pepper) in live:
                continue
            for key in live.values():
                if (key.organisation, key.project, key.name) == (each.new.organisation, each.new.project, name):
                    await self._administration.revoke_key(key.id, actor=_ACTOR)
            secrets[name], _ = await self._administration.create_key(each.new, actor=_ACTOR)
            _write_keys(self._path, secrets)
        return {each.new.name: secrets[each.new.name] for each in wanted}


def read_keys(path: Path) -> dict[str, str]:
    """The secrets in the file, by name; none when there is no file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _write_keys(path: Path, secrets: dict[str, str]) -> None:
    """Whole or not at all, readable by its owner only."""
    draft = path.with_name(path.name + ".part")
    text = "# Keys of the demo, made on its first start and shown again on each.\n" + "".join(
        f"{name} {secret}\n" for name, secret in secrets.items()
    )
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
