"""The servers of one model: which are up, which have a free slot, and how many slots there are in all."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.placement import may_use
from ilaas.core.dispatch.state import Entry, Slot


class Fleet:
    """Keeps `free` and the totals right: call `refresh` after anything about a server has changed."""

    __slots__ = ("_number", "_windows", "free", "limit_total", "open_total", "owners", "slots")

    def __init__(self, spec: ModelSpec, now: float) -> None:
        self.slots: dict[str, Slot] = {}
        self.free: dict[str, Slot] = {}
        """Servers with an open slot, by id."""
        self.limit_total = 0
        self.open_total = 0
        self.owners: frozenset[str] = frozenset()
        self._windows: tuple[int, ...] = ()
        self._number = 0
        self.configure(spec, now)

    def configure(self, spec: ModelSpec, now: float) -> None:
        """Servers that stay keep what they learned and have under way; those that go still settle."""
        wanted = {server.id: server for server in spec.servers}
        for server_id, slot in list(self.slots.items()):
            if server_id not in wanted:
                slot.gone = True
                self.refresh(slot)
                del self.slots[server_id]
        for server_id, server in wanted.items():
            known = self.slots.get(server_id)
            if known is None:
                self._number += 1
                known = self.slots[server_id] = Slot(server, spec.policy, self._number, now)
            else:
                known.configure(server, spec.policy)
            self.refresh(known)
        self.owners = frozenset(server.owner for server in spec.servers)
        self._windows = tuple(sorted({server.context_window for server in spec.servers if server.context_window}))

    def refresh(self, slot: Slot) -> None:
        """Something about this server changed."""
        self.limit_total -= slot.limit
        self.open_total -= slot.open
        slot.refresh()
        self.limit_total += slot.limit
        self.open_total += slot.open
        if slot.open:
            self.free[slot.spec.id] = slot
        else:
            self.free.pop(slot.spec.id, None)

    def usable(self) -> Iterator[Slot]:
        """Servers that are up or probing and not draining."""
        return (slot for slot in self.slots.values() if slot.usable())

    def any_for(self, entry: Entry) -> bool:
        """Whether some server may serve the ticket, now or later."""
        return any(may_use(slot, entry) for slot in self.usable())

    def window_rank(self, context_tokens: int) -> int:
        """Which of the different windows a ticket needs; 0 is any."""
        return bisect_left(self._windows, context_tokens) if context_tokens else 0

    def back_in_s(self, now: float) -> float:
        """Seconds until the first server that is down may be tried again."""
        return min((slot.health.back_in_s(now) for slot in self.slots.values()), default=30.0)

    def fits_anybody(self, entry: Entry) -> bool:
        """Some free server may serve the ticket now, without touching what is reserved for its owner."""
        organisation = entry.ticket.organisation
        for slot in self.free.values():
            if (slot.open > slot.reserved or slot.spec.owner == organisation) and may_use(slot, entry):
                return True
        return False

    def fits_own(self, entry: Entry) -> bool:
        """A free server of its own organisation may serve the ticket now."""
        organisation = entry.ticket.organisation
        return any(slot.spec.owner == organisation and may_use(slot, entry) for slot in self.free.values())
