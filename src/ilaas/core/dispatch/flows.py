"""The waiting tickets of one organisation, in order: heaps from which a ticket that left is dropped when it is met.

Inside an organisation: `arrival - priority * PRIORITY_WORTH_S`, lowest first. A higher priority goes first, and a lower
one waits at most that much longer for each step between them, so that it never starves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from ilaas.core.dispatch.state import Entry, Need

COMPACT_ABOVE = 64
"""Heaps with dead entries are made anew when they are larger than this and more than half dead."""
LEVELS = 10
"""Priorities further from 0 than this are counted together."""

Fits = Callable[[Entry], bool]
"""Whether some server that is free now may serve the ticket."""


class EntryHeap:
    """Tickets with the same need: if the first fits no free server, none does."""

    __slots__ = ("_heap", "live")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry]] = []
        self.live = 0

    def push(self, entry: Entry) -> None:
        """Put a ticket in."""
        heappush(self._heap, (entry.rank, entry.number, entry))
        self.live += 1

    def left(self) -> None:
        """One of its tickets was granted, refused or cancelled."""
        self.live -= 1
        heap = self._heap
        if len(heap) > COMPACT_ABOVE and len(heap) > 2 * self.live:
            heap[:] = [item for item in heap if item[2].waiting]
            heapify(heap)

    def first(self) -> Entry | None:
        """The first ticket, left in its place."""
        heap = self._heap
        while heap:
            entry = heap[0][2]
            if entry.waiting:
                return entry
            heappop(heap)
        return None

    def __iter__(self) -> Iterator[Entry]:
        """Waiting tickets in no order."""
        return (item[2] for item in self._heap if item[2].waiting)


class NeedHeaps:
    """Tickets in one heap for each need, so that a long prompt which fits only a busy server holds up nobody else."""

    __slots__ = ("_heaps", "live")

    def __init__(self) -> None:
        self.live = 0
        self._heaps: dict[Need, EntryHeap] = {}

    def push(self, entry: Entry) -> None:
        """Put a ticket in."""
        heap = self._heaps.get(entry.need)
        if heap is None:
            heap = self._heaps[entry.need] = EntryHeap()
        heap.push(entry)
        self.live += 1

    def left(self, entry: Entry) -> None:
        """One of the tickets is no longer waiting."""
        self.live -= 1
        heap = self._heaps[entry.need]
        heap.left()
        if not heap.live:
            del self._heaps[entry.need]

    def first(self, fits: Fits) -> Entry | None:
        """The first ticket that fits a free server, left in its place."""
        best: Entry | None = None
        for heap in self._heaps.values():
            entry = heap.first()
            if entry is None or (best is not None and (entry.rank, entry.number) > (best.rank, best.number)):
                continue
            if fits(entry):
                best = entry
        return best

    def __iter__(self) -> Iterator[Entry]:
        """Waiting tickets in no order."""
        for heap in self._heaps.values():
            yield from heap


class _Level:
    """How many tickets of one priority came and went."""

    __slots__ = ("arrivals", "departures")

    def __init__(self) -> None:
        self.arrivals = 0
        self.departures = 0


class Flow:
    """One organisation's tickets of one class, and its account in fair queueing (see `ordering`)."""

    __slots__ = ("_levels", "finish", "floor", "live", "name", "start", "tickets", "version", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.finish = 0.0
        """Finish tag of what it was last served."""
        self.floor = 0.0
        """Virtual time when it last began to wait: it saves up no credit from before."""
        self.start = 0.0
        """Start tag of its next ticket: the later of the two."""
        self.version = 0
        self.weight = 1.0
        """As of when it last began to wait."""
        self.live = 0
        self.tickets = NeedHeaps()
        self._levels: dict[int, _Level] = {}

    def push(self, entry: Entry) -> None:
        """Add a ticket."""
        self.tickets.push(entry)
        self.live += 1
        key = _level_of(entry)
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = _Level()
        if entry.attempts:  # a retry is before those that came while it was away
            level.departures -= 1
            entry.index = level.departures + 1
        else:
            level.arrivals += 1
            entry.index = level.arrivals

    def left(self, entry: Entry) -> None:
        """A ticket is no longer waiting."""
        self.tickets.left(entry)
        self.live -= 1
        key = _level_of(entry)
        level = self._levels[key]
        level.departures += 1
        if level.departures == level.arrivals:
            del self._levels[key]

    def clear(self) -> None:
        """Nobody waits any more; the account is kept."""
        self.live = 0
        self.tickets = NeedHeaps()
        self._levels = {}

    def ahead_of(self, entry: Entry) -> int:
        """Tickets that are served before it: exact when nobody cancels and nobody has aged past a priority."""
        own = _level_of(entry)
        ahead = 0
        for key, level in self._levels.items():
            if key > own:
                ahead += level.arrivals - level.departures
            elif key == own:
                ahead += max(0, min(level.arrivals - level.departures - 1, entry.index - 1 - level.departures))
        return ahead


def _level_of(entry: Entry) -> int:
    priority = entry.ticket.priority
    return priority if -LEVELS <= priority <= LEVELS else LEVELS if priority > 0 else -LEVELS
