"""Who goes next: the queue of one class, fair between organisations, and the lane of each owner.

Between organisations: start-time fair queueing (Goyal, Vin and Cheng 1996). An organisation's head has the start tag
`max(V, F)`, where F is the finish tag of what it was last served and V the start tag of what anyone was last served, so
that nobody saves up credit while idle. Serving adds `tokens / weight` to F; the settlement corrects it by the real
count.

Inside an organisation: `arrival - priority * PRIORITY_WORTH_S`, lowest first. A higher priority goes first, and a lower
one waits at most that much longer for each step between them, so that it never starves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from ilaas.core.dispatch.state import Entry

PRIORITY_WORTH_S = 300.0
COMPACT_ABOVE = 64
"""Heaps with dead entries are made anew when they are larger than this and more than half dead."""

Fits = Callable[[Entry], bool]
"""Whether some server that is free now may serve the ticket."""

LOOKED_AT = 16
"""Tickets of one heap that are tried at most when its first ones fit no free server (retries that exclude servers)."""


def rank(arrived_s: float, priority: int) -> float:
    """The place inside an organisation; lower goes first."""
    return arrived_s - priority * PRIORITY_WORTH_S


class EntryHeap:
    """Waiting tickets in order, with lazy deletion: a ticket that left is dropped when it comes to the top."""

    __slots__ = ("_heap", "live")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry]] = []
        self.live = 0

    def push(self, entry: Entry, key: float) -> None:
        """Put a ticket in."""
        heappush(self._heap, (key, entry.number, entry))
        self.live += 1

    def left(self) -> None:
        """One of its tickets was granted, refused or cancelled."""
        self.live -= 1
        heap = self._heap
        if len(heap) > COMPACT_ABOVE and len(heap) > 2 * self.live:
            heap[:] = [item for item in heap if item[2].waiting]
            heapify(heap)

    def first(self, fits: Fits) -> Entry | None:
        """The first ticket that fits, left in its place; None when none of the first few does."""
        heap = self._heap
        while heap and not heap[0][2].waiting:
            heappop(heap)
        if not heap:
            return None
        if fits(heap[0][2]):
            return heap[0][2]
        return self._search(fits)

    def _search(self, fits: Fits) -> Entry | None:
        aside: list[tuple[float, int, Entry]] = []
        found: Entry | None = None
        heap = self._heap
        while heap and len(aside) < LOOKED_AT and found is None:
            item = heappop(heap)
            if not item[2].waiting:
                continue
            aside.append(item)
            if fits(item[2]):
                found = item[2]
        for item in aside:
            heappush(heap, item)
        return found

    def __iter__(self) -> Iterator[Entry]:
        """Waiting tickets in no order."""
        return (item[2] for item in self._heap if item[2].waiting)


class Flow:
    """One organisation's tickets of one class. Those that need a wider window or exclude servers wait apart.

    So that a long prompt that fits only a busy server does not keep the others from a free one.
    """

    __slots__ = ("_heaps", "arrivals", "departures", "finish", "live", "name", "start", "version")

    def __init__(self, name: str) -> None:
        self.name = name
        self.finish = 0.0
        self.start = 0.0
        self.version = 0
        self.live = 0
        self.arrivals = 0
        self.departures = 0
        self._heaps: dict[tuple[int, bool], EntryHeap] = {}

    def push(self, entry: Entry) -> None:
        """Add a ticket."""
        heap = self._heaps.get(entry.need)
        if heap is None:
            heap = self._heaps[entry.need] = EntryHeap()
        heap.push(entry, entry.rank)
        self.live += 1

    def left(self, entry: Entry) -> None:
        """A ticket is no longer waiting."""
        self.live -= 1
        self.departures += 1
        heap = self._heaps[entry.need]
        heap.left()
        if not heap.live:
            del self._heaps[entry.need]

    def first(self, fits: Fits) -> Entry | None:
        """The organisation's next ticket that fits a free server."""
        best: Entry | None = None
        for heap in list(self._heaps.values()):
            entry = heap.first(fits)
            if entry is not None and (best is None or (entry.rank, entry.number) < (best.rank, best.number)):
                best = entry
        return best

    def __iter__(self) -> Iterator[Entry]:
        """Waiting tickets in no order."""
        for heap in self._heaps.values():
            yield from heap


class ClassQueue:
    """All tickets of one class that may go to anybody's server."""

    __slots__ = ("_fair", "_flows", "_heap", "_tag", "_weights", "live")

    def __init__(self, weights: dict[str, float], *, fair: bool) -> None:
        """`fair` False is one flow for all: by priority and arrival alone (round-robin-priority)."""
        self._weights = weights
        self._fair = fair
        self._flows: dict[str, Flow] = {}
        self._heap: list[tuple[float, str, int]] = []
        """(start tag, organisation, version of its flow); an entry of an older version is dead."""
        self._tag = 0.0
        self.live = 0

    def configure(self, weights: dict[str, float], *, fair: bool) -> None:
        """Take other weights; they hold for what is served from now on."""
        self._weights = weights
        if fair != self._fair:
            waiting = [entry for flow in self._flows.values() for entry in flow]
            self._fair = fair
            self._flows = {}
            self._heap = []
            self.live = 0
            for entry in sorted(waiting, key=lambda entry: entry.number):
                self.push(entry)

    def weight(self, organisation: str) -> float:
        """Its share; unknown organisations count 1."""
        return self._weights.get(organisation, 1.0) if self._fair else 1.0

    def waiting_of(self, organisation: str) -> int:
        """Tickets of one organisation."""
        flow = self._flows.get(organisation if self._fair else "")
        return flow.live if flow is not None else 0

    def waiting_weight(self, but: str) -> float:
        """Summed weight of the organisations that wait, but one."""
        return sum(self.weight(flow.name) for flow in self._flows.values() if flow.live and flow.name != but)

    def push(self, entry: Entry) -> None:
        """A ticket waits, for the first time or again in its old place."""
        name = entry.ticket.organisation if self._fair else ""
        flow = self._flows.get(name)
        if flow is None:
            flow = self._flows[name] = Flow(name)
        entry.flow = flow
        if not entry.index:
            flow.arrivals += 1
            entry.index = flow.arrivals
        idle = not flow.live
        flow.push(entry)
        self.live += 1
        if idle:
            flow.start = max(self._tag, flow.finish)
            self._queue(flow)

    def left(self, entry: Entry) -> None:
        """A ticket is no longer waiting: cancelled, refused, or served by its owner lane."""
        flow = entry.flow
        if flow is None:
            return
        entry.flow = None
        flow.left(entry)
        self.live -= 1
        if not flow.live:
            flow.version += 1
            self._forget_idle()

    def serve(self, entry: Entry) -> None:
        """A ticket is granted: it counts against its organisation's share."""
        flow = entry.flow
        if flow is None:
            return
        self._tag = max(self._tag, flow.start)
        flow.finish = flow.start + entry.cost / self.weight(flow.name)
        flow.start = flow.finish
        self.left(entry)
        if flow.live:
            self._queue(flow)

    def correct(self, organisation: str, tokens: float) -> None:
        """The real count was so many tokens more (or fewer) than the estimate."""
        flow = self._flows.get(organisation if self._fair else "")
        if flow is None:
            return
        delta = tokens / self.weight(flow.name)
        flow.finish += delta
        if flow.live:
            flow.start = max(flow.start + delta, 0.0)
            self._queue(flow)

    def first(self, fits: Fits) -> Entry | None:
        """The fairest ticket that fits a free server, left in its place."""
        heap, aside, found = self._heap, [], None
        while heap and found is None:
            item = heappop(heap)
            flow = self._flows.get(item[1])
            if flow is None or flow.version != item[2]:
                continue
            aside.append(item)
            found = flow.first(fits)
        for item in aside:
            heappush(heap, item)
        return found

    def ahead_of(self, entry: Entry) -> int:
        """Tickets of its organisation that came before it and still wait; exact when nobody cancels."""
        flow = entry.flow
        return max(0, min(flow.live - 1, entry.index - 1 - flow.departures)) if flow is not None else 0

    def _queue(self, flow: Flow) -> None:
        flow.version += 1
        heappush(self._heap, (flow.start, flow.name, flow.version))
        if len(self._heap) > COMPACT_ABOVE and len(self._heap) > 4 * len(self._flows):
            flows = self._flows
            self._heap = [
                item for item in self._heap if (known := flows.get(item[1])) is not None and known.version == item[2]
            ]
            heapify(self._heap)

    def _forget_idle(self) -> None:
        """Flows that are idle and owe nothing are as good as new ones."""
        if len(self._flows) > COMPACT_ABOVE * 16:
            self._flows = {name: flow for name, flow in self._flows.items() if flow.live or flow.finish > self._tag}


class OwnerLane:
    """The waiting tickets of an organisation that provides servers: for these, before anybody else's."""

    __slots__ = ("_batch", "_interactive")

    def __init__(self) -> None:
        self._interactive = EntryHeap()
        self._batch = EntryHeap()

    @property
    def live(self) -> int:
        """Waiting tickets."""
        return self._interactive.live + self._batch.live

    def push(self, entry: Entry) -> None:
        """A ticket waits."""
        (self._batch if entry.batch else self._interactive).push(entry, entry.rank)

    def left(self, entry: Entry) -> None:
        """It waits no more."""
        (self._batch if entry.batch else self._interactive).left()

    def first(self, fits: Fits) -> Entry | None:
        """Interactive before batch."""
        return self._interactive.first(fits) or self._batch.first(fits)

    def __iter__(self) -> Iterator[Entry]:
        """Waiting tickets in no order."""
        yield from self._interactive
        yield from self._batch
