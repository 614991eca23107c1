"""The servers of one model: which are up, which have a free slot, and how many slots there are in all."""

from __future__ import annotations

from bisect import bisect_left

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.health import HealthState
from ilaas.core.dispatch.state import NO_NEED, Entry, Need, Slot

NO_SERVER_BACK_S = 30.0
"""What is told of when a server comes, while the model has none."""


class Fleet:
    """Keeps `free` and the totals right: call `refresh` after anything about a server has changed."""

    __slots__ = (
        "_leaving",
        "_number",
        "_windows",
        "free",
        "limit_total",
        "open_total",
        "owners",
        "policy",
        "slots",
        "unreserved",
        "usable_total",
    )

    def __init__(self, spec: ModelSpec, now: float) -> None:
        self.policy = spec.policy
        self.slots: dict[str, Slot] = {}
        self.free: dict[str, Slot] = {}
        """Servers with an open slot, by id."""
        self.limit_total = 0
        self.open_total = 0
        self.usable_total = 0
        self.owners: frozenset[str] = frozenset()
        self.unreserved = True
        """No server keeps slots for its owner."""
        self._leaving: dict[str, Slot] = {}
        """Taken out of the catalogue, with requests still under way."""
        self._windows: tuple[int, ...] = ()
        self._number = 0
        self.configure(spec, now)

    def configure(self, spec: ModelSpec, now: float) -> None:
        """Servers that stay keep what they learned and have under way; those that go still settle."""
        self.policy = spec.policy
        wanted = {server.id: server for server in spec.servers}
        for server_id, slot in list(self.slots.items()):
            if server_id not in wanted:
                slot.gone = True
                del self.slots[server_id]
                self._leaving[server_id] = slot
                self.refresh(slot)
        for server_id, server in wanted.items():
            known = self.slots.get(server_id) or self._leaving.pop(server_id, None)
            if known is None:
                self._number += 1
                known = Slot(server, spec.policy, self._number, now)
            else:
                known.gone = False
                known.configure(server, spec.policy)
            self.slots[server_id] = known
            known.assess(now)
            self.refresh(known)
        self.unreserved = not any(server.owner_reserved for server in spec.servers)
        self.owners = frozenset(server.owner for server in spec.servers)
        self._windows = tuple(sorted({server.context_window for server in spec.servers if server.context_window}))

    def refresh(self, slot: Slot) -> None:
        """Something about this server changed."""
        limit, open_, usable = slot.limit, slot.open, slot.usable
        slot.refresh()
        self.limit_total += slot.limit - limit
        self.open_total += slot.open - open_
        if slot.usable is not usable:
            self.usable_total += 1 if slot.usable else -1
        if slot.open:
            self.free[slot.id] = slot
        elif open_:
            del self.free[slot.id]
        if slot.gone and not slot.in_flight:
            self._leaving.pop(slot.id, None)

    # -- what a ticket may use -----------------------------------------------------------------------------------------

    def need(self, context_tokens: int, excluded: tuple[str, ...]) -> Need:
        """What a ticket needs of a server."""
        rank = bisect_left(self._windows, context_tokens) if context_tokens else 0
        return (rank, tuple(sorted(excluded))) if rank or excluded else NO_NEED

    def any_for(self, need: Need, organisation: str, *, private_only: bool) -> bool:
        """Whether some server that is up may serve a ticket of the organisation with this need, now or later."""
        if need == NO_NEED and not private_only and self.unreserved:
            return self.usable_total > 0
        return any(slot.usable and self._serves(slot, need, organisation, private_only) for slot in self.slots.values())

    def too_narrow(self, need: Need, organisation: str, *, private_only: bool) -> bool:
        """Whether the context window is what keeps every server, up or down, from serving a ticket."""
        anywhere = (0, need[1])
        return not any(self._serves(slot, need, organisation, private_only) for slot in self.slots.values()) and any(
            self._serves(slot, anywhere, organisation, private_only) for slot in self.slots.values()
        )

    def back_in_s(self, now: float) -> float:
        """Seconds until the first server that is down may be tried again; 0 when others are up, 30 without any."""
        down = [slot.health.back_in_s(now) for slot in self.slots.values() if slot.health.state is HealthState.DOWN]
        return min(down, default=0.0 if self.usable_total else NO_SERVER_BACK_S)

    def fits_anybody(self, entry: Entry) -> bool:
        """Some free server may serve the ticket now, without touching what is reserved for its owner."""
        organisation, anywhere = entry.ticket.organisation, entry.need is NO_NEED
        for slot in self.free.values():
            if (slot.shared or slot.owner == organisation) and (anywhere or may_use(slot, entry)):
                return True
        return False

    def fits_own(self, entry: Entry) -> bool:
        """A free server of its own organisation may serve the ticket now."""
        organisation = entry.ticket.organisation
        return any(slot.owner == organisation and may_use(slot, entry) for slot in self.free.values())

    def _serves(self, slot: Slot, need: Need, organisation: str, private_only: bool) -> bool:
        rank, excluded = need
        if slot.id in excluded or (slot.owner != organisation and (private_only or slot.dedicated)):
            return False
        window = slot.spec.context_window
        return not rank or not window or (rank < len(self._windows) and window >= self._windows[rank])


def may_use(slot: Slot, entry: Entry) -> bool:
    """The server did not fail this ticket, its window is wide enough, and private-only goes to own servers only."""
    ticket = entry.ticket
    if ticket.excluded and slot.id in ticket.excluded:
        return False
    if entry.private_only and slot.owner != ticket.organisation:
        return False
    window = slot.spec.context_window
    return not window or ticket.context_tokens <= window
