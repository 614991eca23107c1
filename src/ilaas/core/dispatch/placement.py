"""Where a ticket goes: filters, then scorers, then the best. Each is a few lines; the policy names the scorers.

A scorer gives 0 (worst) to 1 (best); the scores are added with their weights and the lowest server number breaks ties.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ilaas.core.dispatch.state import Entry, Slot
from ilaas.core.values import RoutingMode

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

    def server(self, prefix_hash: int) -> str | None:
        """Its id, or None."""
        return self._servers.get(prefix_hash) if prefix_hash else None

    def note(self, prefix_hash: int, server_id: str) -> None:
        """It was sent there."""
        if not prefix_hash:
            return
        servers = self._servers
        servers[prefix_hash] = server_id
        servers.move_to_end(prefix_hash)
        if len(servers) > REMEMBERED_PREFIXES:
            servers.popitem(last=False)


@dataclass(slots=True)
class Scene:
    """What scorers may look at beside the server and the ticket."""

    now: float = 0.0
    mean_load: float = 0.0
    best_ttft_s: float = 0.0
    """The shortest recent time to first token of the servers that are free; 0 when none is known."""
    prefixes: PrefixMemory = field(default_factory=PrefixMemory)
    active_owners: frozenset[str] = frozenset()
    """Organisations that have requests of their own waiting or under way."""


def window_fits(slot: Slot, entry: Entry) -> bool:
    """The server's context window is wide enough, or not known."""
    window = slot.spec.context_window
    return window is None or entry.ticket.context_tokens <= window


def mode_allows(slot: Slot, entry: Entry) -> bool:
    """Private-only goes to own servers only."""
    return not entry.private_only or slot.spec.owner == entry.ticket.organisation


def not_excluded(slot: Slot, entry: Entry) -> bool:
    """It did not fail this ticket."""
    return slot.spec.id not in entry.ticket.excluded


FILTERS: tuple[Callable[[Slot, Entry], bool], ...] = (window_fits, mode_allows, not_excluded)


def may_use(slot: Slot, entry: Entry) -> bool:
    """All filters."""
    ticket, spec = entry.ticket, slot.spec
    if ticket.excluded and spec.id in ticket.excluded:
        return False
    if entry.private_only and spec.owner != ticket.organisation:
        return False
    return not ticket.context_tokens or window_fits(slot, entry)


Scorer = Callable[[Slot, Entry, Scene], float]


def load(slot: Slot, entry: Entry, scene: Scene) -> float:
    """Free share of the server, then its speed, then the free share of its KV cache.

    Speed is the shortest time to first token among the servers that are free, in relation to this one's; a server not
    tried yet is taken for fast. Batch does not care, which leaves the fast servers to those who wait for an answer.
    """
    told = slot.fresh(scene.now)
    cache = (told.kv_cache_usage or 0.0) if told is not None else 0.0
    ttft_s = slot.capacity.ttft_s
    speed = min(1.0, scene.best_ttft_s / ttft_s) if ttft_s and not entry.batch else 1.0
    return (1.0 - load_of(slot) + SPEED_WEIGHT * speed + CACHE_WEIGHT * (1.0 - cache)) / LOAD_PARTS


def affinity(slot: Slot, entry: Entry, scene: Scene) -> float:
    """1 for the server that has the conversation in its cache, unless it is loaded above the others."""
    if scene.prefixes.server(entry.ticket.prefix_hash) != slot.spec.id:
        return 0.0
    return 1.0 if load_of(slot) <= BOUNDED_LOAD * scene.mean_load + 0.1 else 0.0


def own(slot: Slot, entry: Entry, scene: Scene) -> float:
    """Own servers first; among others', those whose owners are not active."""
    owner = slot.spec.owner
    if owner == entry.ticket.organisation:
        return 1.0 if entry.ticket.routing_mode is not RoutingMode.ANY else 0.6
    return 0.0 if owner in scene.active_owners else 0.3


SCORERS: Mapping[str, tuple[Scorer, float]] = MappingProxyType(
    {"load": (load, LOAD_PARTS), "affinity": (affinity, 0.8), "own": (own, 0.4)}
)
"""By the name in the policy: the scorer and its weight."""


def load_of(slot: Slot) -> float:
    """In flight in relation to the limit; of an unlimited server, to a hundred."""
    limit = slot.limit if slot.limit < 1 << 30 else 100
    return min(1.0, slot.in_flight / limit) if limit else 1.0


def pick(slots: Iterable[Slot], entry: Entry, scene: Scene, names: tuple[str, ...]) -> Slot | None:
    """The best server of those that pass the filters; None when none does."""
    best: Slot | None = None
    best_score = -1.0
    chosen = [SCORERS[name] for name in names if name in SCORERS]
    for slot in slots:
        if not may_use(slot, entry):
            continue
        score = 0.0
        for scorer, weight in chosen:
            score += weight * scorer(slot, entry, scene)
        if score > best_score + 1e-9 or (best is not None and score > best_score - 1e-9 and slot.number < best.number):
            best, best_score = slot, score
    return best


def pick_next(slots: Iterable[Slot], entry: Entry, last: int) -> Slot | None:
    """Round robin: the next server after the last one chosen, by number."""
    usable = [slot for slot in slots if may_use(slot, entry)]
    if not usable:
        return None
    return min(usable, key=lambda slot: (slot.number <= last, slot.number))
