"""Where a ticket goes: filters, then scorers, then the best. Each is a few lines; the policy names the scorers.

A scorer gives points to each server, or None when it sees no difference between them. The points are added up; of
equals the one that has been free for longest is taken.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from types import MappingProxyType

from ilaas.core.dispatch.fleet import Fleet, may_use
from ilaas.core.dispatch.state import NO_NEED, Entry, Slot
from ilaas.core.values import RoutingMode, Strategy

REMEMBERED_PREFIXES = 20_000
BOUNDED_LOAD = 1.25
"""A server with more than this times the mean load is not chosen for its cache (Mirrokni et al. 2018)."""
SPEED_POINTS = 0.5
AFFINITY_POINTS = 0.8
OWN_POINTS = 0.4
"""For a server of its own organisation, when the routing mode asks for that."""
OWN_ANY_POINTS = 0.24
QUIET_OWNER_POINTS = 0.12


class PrefixMemory:
    """Which server answered a conversation last; the least recently used is forgotten."""

    __slots__ = ("_servers",)

    def __init__(self) -> None:
        self._servers: OrderedDict[int, str] = OrderedDict()

    def __len__(self) -> int:
        """Prefixes remembered."""
        return len(self._servers)

    def server(self, prefix_hash: int) -> str | None:
        """Its id, or None."""
        return self._servers.get(prefix_hash) if prefix_hash else None

    def note(self, prefix_hash: int, server_id: str) -> None:
        """It was sent there."""
        servers = self._servers
        servers[prefix_hash] = server_id
        servers.move_to_end(prefix_hash)
        if len(servers) > REMEMBERED_PREFIXES:
            servers.popitem(last=False)


@dataclass(slots=True)
class Scene:
    """What scorers may look at beside the servers and the ticket."""

    mean_load: float = 0.0
    prefixes: PrefixMemory = field(default_factory=PrefixMemory)
    owners: frozenset[str] = frozenset()
    """The organisations that provide servers."""
    active_owners: dict[str, int] = field(default_factory=dict)
    """Their requests under way; those that have none are not in it."""


Scorer = Callable[[Sequence[Slot], Entry, Scene], list[float] | None]


def load(slots: Sequence[Slot], entry: Entry, scene: Scene) -> list[float]:  # noqa: ARG001  # all take the same
    """A point for the free share of the server, half a one for its speed, a fifth for the free share of its KV cache.

    Speed is the shortest time to first token among the servers that are free, in relation to this one's; a server not
    tried yet is taken for fast. Batch does not care, which leaves the fast servers to those who wait for an answer.
    """
    best = 0.0 if entry.batch else max([slot.quickness for slot in slots])
    if not best:
        return [slot.vacancy for slot in slots]
    scale = SPEED_POINTS / best
    return [slot.vacancy + (slot.quickness * scale or SPEED_POINTS) for slot in slots]


def affinity(slots: Sequence[Slot], entry: Entry, scene: Scene) -> list[float] | None:
    """For the server that has the conversation in its cache, unless it is loaded above the others."""
    last = scene.prefixes.server(entry.ticket.prefix_hash)
    if last is None:
        return None
    bound = BOUNDED_LOAD * scene.mean_load + 0.1
    return [AFFINITY_POINTS if slot.id == last and slot.in_flight <= bound * slot.limit else 0.0 for slot in slots]


def own(slots: Sequence[Slot], entry: Entry, scene: Scene) -> list[float] | None:
    """Own servers first; among others', those whose owners have no requests under way."""
    organisation, active = entry.ticket.organisation, scene.active_owners
    if not active and organisation not in scene.owners:
        return None
    first = OWN_ANY_POINTS if entry.ticket.routing_mode is RoutingMode.ANY else OWN_POINTS
    return [
        first if (owner := slot.owner) == organisation else 0.0 if owner in active else QUIET_OWNER_POINTS
        for slot in slots
    ]


SCORERS: Mapping[str, Scorer] = MappingProxyType({"load": load, "affinity": affinity, "own": own})
"""By the name in the policy."""


class Placement:
    """Chooses among the servers that are free."""

    __slots__ = ("_fleet", "_last", "_scorers", "scene")

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._last = 0
        self._scorers: list[Scorer] = []
        self.scene = Scene()
        self.configure()

    def configure(self) -> None:
        """Take the policy's scorers and the owners of the fleet."""
        self._scorers = [SCORERS[name] for name in self._fleet.policy.scorers if name in SCORERS]
        self.scene.owners = self._fleet.owners

    def place(self, entry: Entry, *, own_only: bool = False) -> Slot | None:
        """The best free server, its own organisation's only if so told; None when there is none."""
        fleet = self._fleet
        if fleet.unreserved and not own_only and entry.need is NO_NEED and not entry.private_only:
            slots = list(fleet.free.values())
        else:
            organisation = entry.ticket.organisation
            slots = [
                slot
                for slot in fleet.free.values()
                if (slot.owner == organisation or (slot.shared and not own_only)) and may_use(slot, entry)
            ]
        if len(slots) < 2:
            return slots[0] if slots else None
        if fleet.policy.strategy is not Strategy.LEAST_BUSY:
            return min(slots, key=self._turn)
        self.scene.mean_load = (fleet.limit_total - fleet.open_total) / fleet.limit_total
        return self._best(slots, entry)

    def chosen(self, entry: Entry, slot: Slot) -> None:
        """The ticket was granted this server."""
        self._last = slot.number
        prefix_hash = entry.ticket.prefix_hash
        if prefix_hash:
            self.scene.prefixes.note(prefix_hash, slot.id)
        organisation = entry.ticket.organisation
        if organisation in self._fleet.owners:
            active = self.scene.active_owners
            active[organisation] = active.get(organisation, 0) + 1

    def released(self, entry: Entry) -> None:
        """A ticket's lease ended."""
        active = self.scene.active_owners
        left = active.get(entry.ticket.organisation)
        if left is not None:
            if left > 1:
                active[entry.ticket.organisation] = left - 1
            else:
                del active[entry.ticket.organisation]

    def _turn(self, slot: Slot) -> tuple[bool, int]:
        """Round robin: the next server after the last one, by number."""
        return slot.number <= self._last, slot.number

    def _best(self, slots: list[Slot], entry: Entry) -> Slot:
        totals: list[float] | None = None
        for scorer in self._scorers:
            points = scorer(slots, entry, self.scene)
            if points is not None:
                totals = points if totals is None else list(map(add, totals, points))
        return slots[totals.index(max(totals))] if totals is not None else slots[0]
