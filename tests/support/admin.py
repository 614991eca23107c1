"""The administration API on a free port, on a store in memory, with one person of every role signed in."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx

from ilaas.adapters.store_memory import MemoryStore
from ilaas.core.catalogue import Catalogue, ModelSpec, ServerSpec
from ilaas.core.errors import InvalidRequest
from ilaas.core.people import Person, Role, RoleGrant
from ilaas.core.rights import LOCAL_OPERATOR
from ilaas.core.tenancy import Organisation, Project
from ilaas.http.admin_api import build_admin_router
from ilaas.services.administration import Administration
from ilaas.services.governance import Governance, Office
from tests.support.listener import listening
from tests.support.twins import PEPPER, House

ROLES = {
    "operator": [RoleGrant(Role.OPERATOR)],
    "manager": [RoleGrant(Role.ORGANISATION_MANAGER, "Lille")],
    "project": [RoleGrant(Role.PROJECT_MANAGER, "Lille", "corpus")],
    "member": [RoleGrant(Role.MEMBER, "Lille")],
    "auditor": [RoleGrant(Role.AUDITOR, "Lille")],
    "data": [RoleGrant(Role.AUDITOR)],
    "elsewhere": [RoleGrant(Role.ORGANISATION_MANAGER, "Lyon")],
    "nobody": [],
}
OF_FILE = ServerSpec(id="lille-file", url="https://a.example.org", site="lille", owner="Lille", served_name="m")


class AdminWorld:
    """What a test does with it."""

    def __init__(self, store: Any = None) -> None:
        self.now_s = 1_800_000_000.0
        self.store = store or MemoryStore(lambda: self.now_s)
        self.catalogue = Catalogue.of(
            [ModelSpec(name="mistral", servers=(OF_FILE,)), ModelSpec(name="llama", description="autre")]
        )
        entropy = random.Random(7).randbytes
        office = Office(
            store=self.store,
            administration=Administration(self.store, PEPPER, lambda: self.now_s, entropy, self.check_url),
            pepper=PEPPER,
            epoch=lambda: self.now_s,
            entropy=entropy,
            catalogue=lambda: self.catalogue,
        )
        self.governance = Governance.of(office)
        self.people: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.http: httpx.AsyncClient
        self.followed: list[int] = []
        """The store's revision at each time that the gateway was asked to take a change over."""

    def check_url(self, url: str) -> None:
        if "10.0.0.1" in url:
            raise InvalidRequest("A private address.", param="url")

    async def follow(self) -> None:
        self.followed.append(await self.store.revision())

    async def begin_anew(self) -> None:
        """As if nothing had happened."""
        self.now_s = 1_800_000_000.0
        vars(self.store).update(vars(MemoryStore(lambda: self.now_s)))
        await self.populate()

    async def populate(self) -> None:
        """Two organisations, three projects, one person of every role."""
        for name in ("Lille", "Lyon"):
            await self.governance.organisations.create(LOCAL_OPERATOR, Organisation(name=name))
        for organisation, name in (("Lille", "corpus"), ("Lille", "langues / été"), ("Lyon", "santé")):
            await self.governance.projects.create(LOCAL_OPERATOR, Project(organisation=organisation, name=name))
        for role, grants in ROLES.items():
            person, _ = await self.governance.people.create(LOCAL_OPERATOR, Person(id="", name=f"The {role}"), grants)
            self.people[role] = person.id
            self.tokens[role], _ = await self.governance.tokens.create(LOCAL_OPERATOR, person.id, "test", None)

    async def call(self, role: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request as the person of that role; headers with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if role:
            named["authorization"] = f"Bearer {self.tokens[role]}"
        return await self.http.request(method, f"/admin/v1{path}", json=body, headers=named)

    async def must(self, role: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The same, which succeeds; the JSON of the answer."""
        answer = await self.call(role, method, path, body, **headers)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    async def etag(self, role: str, path: str) -> str:
        """The current one of a thing."""
        return (await self.call(role, "GET", path)).headers["etag"]

    async def last_line(self) -> Any:
        """The newest of the audit trail, as an operator sees it."""
        return (await self.must("operator", "GET", "/audit?limit=1"))["data"][0]


@contextlib.asynccontextmanager
async def administering(store: Any = None) -> AsyncIterator[AdminWorld]:
    """Start, and end with nothing left behind."""
    world = AdminWorld(store)
    await world.populate()
    router = build_admin_router(world.governance, "0", world.follow)
    async with (
        listening(House(), routers=[router]) as listener,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}", timeout=20) as http,
    ):
        world.http = http
        yield world
