"""Where organisations, keys, servers added at run time and usage records live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ilaas.core.catalogue import ServerSpec
from ilaas.core.tenancy import Directory, Key, Organisation
from ilaas.ports.books import Books
from ilaas.ports.tenancy import AuditLine, TenancyStore
from ilaas.ports.usage import UsageStore

__all__ = ["AuditLine", "Store", "StoredServer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredServer:
    """A server added at run time, for a model of the catalogue."""

    model: str
    spec: ServerSpec


class Store(TenancyStore, UsageStore, Books, Protocol):
    """The durable state. Every method raises `StoreUnavailable` when the database does not answer.

    Every change bumps `revision`, which gateways poll: that is how a change reaches all of them within a second.
    """

    async def open(self) -> None:
        """Connect and bring the schema up to date."""

    async def close(self) -> None:
        """Let go of every connection."""

    async def revision(self) -> int:
        """A number that grows with every change of the directory or the servers. Cheap."""

    async def directory(self) -> Directory:
        """Every organisation and every key that is not long dead."""

    async def put_organisation(self, organisation: Organisation, audit: AuditLine) -> None:
        """Create or replace; nothing is written when it is the same already."""

    async def add_organisation(self, organisation: Organisation, audit: AuditLine) -> bool:
        """Create it unless one of that name is there; says whether it did."""

    async def add_key(self, key: Key, audit: AuditLine) -> None:
        """Raises `Conflict` when the digest or id is taken, or the name within the project, by a live key.

        Live is meant at `audit.at_s`. A key that was replaced does not hold its name. Raises `NotFound` when the
        organisation is not there.
        """

    async def change_key(self, key: Key, audit: AuditLine) -> None:
        """Replace the key of that id, save its digest, creation and last use. Raises `NotFound`."""

    async def replace_key(self, old: Key, new: Key, audit: AuditLine) -> None:
        """`change_key(old)` and `add_key(new)` in one transaction; `old.replaced_by` lets `new` take its name."""

    async def list_keys(self, *, organisation: str | None = None, include_dead: bool = False) -> Sequence[Key]:
        """Keys by organisation, project, name."""

    async def touch_keys(self, used_at_s: dict[str, float]) -> None:
        """Note last use by key id; does not bump the revision."""

    async def servers(self) -> Sequence[StoredServer]:
        """Servers added at run time, tokens decrypted."""

    async def draining(self) -> frozenset[str]:
        """Ids of servers (of the file or of the store) told to drain."""

    async def put_server(self, server: StoredServer, audit: AuditLine) -> None:
        """Add a server. Raises `Conflict` when its id is taken."""

    async def remove_server(self, server_id: str, audit: AuditLine) -> None:
        """Raises `NotFound`."""

    async def set_draining(self, server_id: str, audit: AuditLine, *, draining: bool) -> None:
        """Set or lift the drain mark; nothing is written when it is so already."""

    async def audit(self, *, limit: int = 100) -> Sequence[AuditLine]:
        """The newest lines first."""
