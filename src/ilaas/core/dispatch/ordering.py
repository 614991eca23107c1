"""Who goes next: the queue of one class, fair between organisations, and the lane of each owner.

Between organisations: start-time fair queueing (Goyal, Vin and Cheng 1996). An organisation's head has the start tag
`max(V, F)`, where F is the finish tag of what it was last served and V, as of when it began to wait, the start tag of
what anyone was last served: nobody saves up credit while idle. Serving adds `tokens / weight` to F; the settlement
corrects it by the real count.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from ilaas.core.dispatch.flows import COMPACT_ABOVE, Fits, Flow, NeedHeaps
from ilaas.core.dispatch.state import Entry

SMALLEST_WEIGHT = 0.01
IDLE_FLOWS = 1024
"""Organisations that do not wait and owe nothing are forgotten when more than this are known."""


class ClassQueue:
    """All tickets of one class that may go to anybody's server."""

    __slots__ = ("_fair", "_flows", "_heap", "_tag", "_version", "_waiting_weight", "_weights", "live")

    def __init__(self) -> None:
        self._weights: dict[str, float] = {}
        self._fair = True
        self._flows: dict[str, Flow] = {}
        self._heap: list[tuple[float, int, Flow]] = []
        """(start tag, version of the flow, flow): the one that has waited longer goes first when tags are equal, and an
        item of an older version is dead."""
        self._tag = 0.0
        self._version = 0
        self._waiting_weight = 0.0
        self.live = 0

    def configure(self, weights: Mapping[str, float], *, fair: bool) -> None:
        """Take other weights, which hold for what is served from now on. The queue must have been cleared.

        `fair` False is one flow for all, by priority and arrival alone (round-robin-priority).
        """
        self._weights = {name: max(SMALLEST_WEIGHT, weight) for name, weight in weights.items()}
        if fair != self._fair:
            self._fair = fair
            self._flows = {}
            self._tag = 0.0

    def clear(self) -> None:
        """Nobody waits any more; what each organisation owes is kept."""
        for flow in self._flows.values():
            flow.clear()
        self._heap = []
        self._waiting_weight = 0.0
        self.live = 0

    def weight(self, organisation: str) -> float:
        """Its share; unknown organisations count 1."""
        return self._weights.get(organisation, 1.0) if self._fair else 1.0

    def waiting_of(self, organisation: str) -> int:
        """Tickets of one organisation."""
        flow = self._flows.get(organisation if self._fair else "")
        return flow.live if flow is not None else 0

    def waiting_weight(self, but: str) -> float:
        """Summed weight of the organisations that wait, but one."""
        flow = self._flows.get(but)
        own = flow.weight if flow is not None and flow.live else 0.0
        return max(0.0, self._waiting_weight - own)

    def push(self, entry: Entry) -> None:
        """A ticket waits, for the first time or again in its old place."""
        name = entry.ticket.organisation if self._fair else ""
        flow = self._flows.get(name)
        if flow is None:
            flow = self._flows[name] = Flow(name)
        entry.flow = flow
        flow.push(entry)
        self.live += 1
        if flow.live == 1:
            flow.weight = self.weight(name)
            self._waiting_weight += flow.weight
            flow.floor = self._tag
            flow.start = max(flow.floor, flow.finish)
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
            flow.version = 0
            self._waiting_weight = self._waiting_weight - flow.weight if self.live else 0.0
            self._forget_idle()

    def serve(self, entry: Entry) -> None:
        """A ticket is granted: it counts against its organisation's share."""
        flow = entry.flow
        if flow is None:
            return
        self._tag = max(self._tag, flow.start)
        flow.finish = flow.start = flow.start + entry.cost / flow.weight
        self.left(entry)
        if flow.live:
            self._queue(flow)

    def correct(self, organisation: str, tokens: float) -> None:
        """The real count was so many tokens more (or fewer) than the estimate."""
        flow = self._flows.get(organisation if self._fair else "")
        if flow is None or not tokens:
            return
        flow.finish += tokens / self.weight(flow.name)
        if flow.live:
            flow.start = max(flow.floor, flow.finish)
            self._queue(flow)

    def first(self, fits: Fits) -> Entry | None:
        """The fairest ticket that fits a free server, left in its place."""
        heap = self._heap
        aside: list[tuple[float, int, Flow]] = []
        found = None
        while heap:
            item = heap[0]
            if item[2].version == item[1]:
                found = item[2].tickets.first(fits)
                if found is not None:
                    break
                aside.append(item)
            heappop(heap)
        for item in aside:
            heappush(heap, item)
        return found

    def _queue(self, flow: Flow) -> None:
        self._version = flow.version = self._version + 1
        heappush(self._heap, (flow.start, flow.version, flow))
        if len(self._heap) > COMPACT_ABOVE and len(self._heap) > 4 * len(self._flows):
            self._heap = [item for item in self._heap if item[2].version == item[1]]
            heapify(self._heap)

    def _forget_idle(self) -> None:
        if len(self._flows) > IDLE_FLOWS:
            self._flows = {name: flow for name, flow in self._flows.items() if flow.live or flow.finish > self._tag}


class Ageing:
    """Batch that has waited too long earns a part of each interactive grant; when it has a whole one, it is next."""

    __slots__ = ("_credit",)

    def __init__(self) -> None:
        self._credit = 0.0

    @property
    def due(self) -> bool:
        """Batch goes before interactive now."""
        return self._credit >= 1.0

    def earned(self, share: float) -> None:
        """An interactive ticket was granted while an old batch ticket waited; `share` is batch's part of the grants."""
        # a little more than the exact part, so that rounding never costs a whole grant
        self._credit = min(1.0, self._credit + share / max(1e-9, 1.0 - share) * (1.0 + 1e-9))

    def spent(self) -> None:
        """A batch ticket was granted."""
        self._credit = max(0.0, self._credit - 1.0)


class OwnerLane:
    """The waiting tickets of an organisation that provides servers: for these, before anybody else's."""

    __slots__ = ("_batch", "_interactive", "ageing")

    def __init__(self) -> None:
        self._interactive = NeedHeaps()
        self._batch = NeedHeaps()
        self.ageing = Ageing()

    @property
    def live(self) -> int:
        """Waiting tickets."""
        return self._interactive.live + self._batch.live

    def push(self, entry: Entry) -> None:
        """A ticket waits."""
        (self._batch if entry.batch else self._interactive).push(entry)

    def left(self, entry: Entry) -> None:
        """It waits no more."""
        (self._batch if entry.batch else self._interactive).left(entry)

    def first(self, fits: Fits) -> Entry | None:
        """Interactive before batch, unless batch is due."""
        first, second = self._interactive, self._batch
        if self.ageing.due:
            first, second = second, first
        return first.first(fits) or second.first(fits)

    def oldest_batch_s(self, fits: Fits) -> float:
        """When the first of its batch tickets that fit arrived; infinity when there is none."""
        entry = self._batch.first(fits)
        return entry.ticket.arrived_s if entry is not None else float("inf")

    def ahead_of(self, entry: Entry) -> int:
        """At most so many are served before it."""
        return self.live - 1 if entry.batch else max(0, self._interactive.live - 1)
