"""Where a ticket goes: filters, then scorers, then the best. Each is a few lines; the policy names the scorers.

A scorer tells of each server from 0 (worst) to 1 (best), or None when it sees no difference between them. The scores
are added with their weights; the lowest server number breaks ties.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ilaas.core.dispatch.fleet import Fleet, may_use
from ilaas.core.dispatch.state import NO_NEED, Entry, Slot
from ilaas.core.values import RoutingMode, Strategy

REMEMBERED_PREFIXES = 20_000
BOUNDED_LOAD = 1.25
"""A server with more than this times the mean load is not chosen for its cache (Mirrokni et al. 2018)."""
SPEED_WEIGHT = 0.5
"""Of a server's speed beside its free share."""
CACHE_WEIGHT = 0.2
LOAD_PARTS = 1.0 + SPEED_WEIGHT + CACHE_WEIGHT


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
    active_owners: dict[str, int] = field(default_factory=dict)
    """Requests under way of the organisations that provide servers; those that have none are not in it."""


Scorer = Callable[[Sequence[Slot], Entry, Scene], list[float] | None]


def load(slots: Sequence[Slot], entry: Entry, scene: Scene) -> list[float]:  # noqa: ARG001  # all take the same
    """Free share of the server, then its speed, then the free share of its KV cache.

    Speed is the shortest time to first token among the servers that are free, in relation to this one's; a server not
    tried yet is taken for fast. Batch does not care, which leaves the fast servers to those who wait for an answer.
    """
    times_s = [0.0 if entry.batch else slot.capacity.ttft_s or 0.0 for slot in slots]
    best_s = min(filter(None, times_s), default=0.0)
    return [
        (
            1.0
            - slot.in_flight / slot.limit
            + SPEED_WEIGHT * (best_s / ttft_s if ttft_s else 1.0)
            + CACHE_WEIGHT * (1.0 - slot.kv_cache_usage)
        )
        / LOAD_PARTS
        for slot, ttft_s in zip(slots, times_s, strict=True)
    ]


def affinity(slots: Sequence[Slot], entry: Entry, scene: Scene) -> list[float] | None:
    """1 for the server that has the conversation in its cache, unless it is loaded above the others."""
    last = scene.prefixes.server(entry.ticket.prefix_hash)
    if last is None:
        return None
    bound = BOUNDED_LOAD * scene.mean_load + 0.1
    return [1.0 if slot.id == last and slot.in_flight <= bound * slot.limit else 0.0 for slot in slots]


def own(slots: Sequence[Slot], entry: Entry, scene: Scene) -> list[float] | None:
    """Own servers first; among others', those whose owners have no requests under way."""
    organisation, active = entry.ticket.organisation, scene.active_owners
    if not active and all(slot.owner != organisation for slot in slots):
        return None
    first = 1.0 if entry.ticket.routing_mode is not RoutingMode.ANY else 0.6
    return [first if slot.owner == organisation else 0.0 if slot.owner in active else 0.3 for slot in slots]


SCORERS: Mapping[str, tuple[Scorer, float]] = MappingProxyType(
    {"load": (load, LOAD_PARTS), "affinity": (affinity, 0.8), "own": (own, 0.4)}
)
"""By the name in the policy: the scorer and its weight."""


class Placement:
    """Chooses among the servers that are free."""

    __slots__ = ("_fleet", "_last", "_scorers", "scene")

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._last = 0
        self._scorers: list[tuple[Scorer, float]] = []
        self.scene = Scene()
        self.configure()

    def configure(self) -> None:
        """Take the policy's scorers and the owners of the fleet."""
        self._scorers = [SCORERS[name] for name in self._fleet.policy.scorers if name in SCORERS]

    def place(self, entry: Entry, *, own_only: bool = False) -> Slot | None:
        """The best free server, its own organisation's only if so told; None when there is none."""
        fleet = self._fleet
        organisation = entry.ticket.organisation
        anywhere = entry.need is NO_NEED and not entry.private_only
        slots = [
            slot
            for slot in fleet.free.values()
            if (slot.owner == organisation or (slot.shared and not own_only)) and (anywhere or may_use(slot, entry))
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
        totals = [0.0] * len(slots)
        for scorer, weight in self._scorers:
            scores = scorer(slots, entry, self.scene)
            if scores is not None:
                totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
        best_score = max(totals) - 1e-9
        return min(
            (slot for slot, total in zip(slots, totals, strict=True) if total >= best_score),
            key=lambda slot: slot.number,
        )
