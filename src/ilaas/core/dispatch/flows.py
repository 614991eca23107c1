"""The waiting tickets of one organisation, in order: heaps from which a ticket that left is dropped when it is met.

Inside an organisation: `arrival - priority * PRIORITY_WORTH_S`, lowest first. A higher priority goes first, and a lower
one waits at most that much longer for each step between them, so that it never starves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from ilaas.core.dispatch.state import Entry, Need

COMPACT_ABOVE = 64
"""Heaps with dead entries are made anew when they are larger than this and more than half dead."""
SERVED_KEPT = 1024
"""Places that were served are forgotten when they are more than this and more than half."""
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
    """The places of one priority's waiting tickets, in the order in which they are served."""

    __slots__ = ("_head", "_places")

    def __init__(self) -> None:
        self._places: list[int] = []
        self._head = 0
        """Those before it were served: leaving in turn moves nothing."""

    @property
    def live(self) -> int:
        """Waiting tickets."""
        return len(self._places) - self._head

    def last(self) -> int:
        """Take the place behind all."""
        place = self._places[-1] + 1 if self._places else 0
        self._places.append(place)
        return place

    def front(self) -> int:
        """Take the place before all."""
        if not self.live:
            return self.last()
        place = self._places[self._head] - 1
        if self._head:
            self._head -= 1
            self._places[self._head] = place
        else:
            self._places.insert(0, place)
        return place

    def leave(self, place: int) -> None:
        """Give a place back, in turn or not."""
        places, head = self._places, self._head
        if places[head] != place:
            del places[bisect_left(places, place, head)]
            return
        self._head = head = head + 1
        if head > SERVED_KEPT and 2 * head > len(places):
            del places[:head]
            self._head = 0

    def before(self, place: int) -> int:
        """Waiting tickets before this place."""
        return bisect_left(self._places, place, self._head) - self._head


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
        # a retry is before those that came while it was away
        entry.index = level.front() if entry.attempts else level.last()

    def left(self, entry: Entry) -> None:
        """A ticket is no longer waiting."""
        self.tickets.left(entry)
        self.live -= 1
        key = _level_of(entry)
        level = self._levels[key]
        level.leave(entry.index)
        if not level.live:
            del self._levels[key]

    def clear(self) -> None:
        """Nobody waits any more; the account is kept."""
        self.live = 0
        self.tickets = NeedHeaps()
        self._levels = {}

    def ahead_of(self, entry: Entry) -> int:
        """Tickets that are served before it: exact when nobody has aged past a priority."""
        own = _level_of(entry)
        ahead = 0
        for key, level in self._levels.items():
            if key > own:
                ahead += level.live
            elif key == own:
                ahead += level.before(entry.index)
        return ahead


def _level_of(entry: Entry) -> int:
    priority = entry.ticket.priority
    return priority if -LEVELS <= priority <= LEVELS else LEVELS if priority > 0 else -LEVELS
