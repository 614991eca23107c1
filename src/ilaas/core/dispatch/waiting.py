"""Every waiting ticket of one model: in its class's queue, in its owner's lane, and by its deadline."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import TypeVar

from ilaas.core.catalogue import DispatchPolicy
from ilaas.core.dispatch.flows import COMPACT_ABOVE
from ilaas.core.dispatch.ordering import ClassQueue, OwnerLane
from ilaas.core.dispatch.state import Entry, Need
from ilaas.core.values import Strategy

Key = TypeVar("Key")
FleetNeed = tuple[Need, str, bool]
"""What tickets have in common that may use the same servers: their need, their organisation when it provides servers,
and whether they are private-only."""


class Waiting:
    """Keeps the structures in step; decides nothing."""

    __slots__ = (
        "_batch_order",
        "_deadlines",
        "_needs",
        "_organisations",
        "_owners",
        "batch",
        "interactive",
        "lanes",
        "live",
    )

    def __init__(self, policy: DispatchPolicy, weights: Mapping[str, float], owners: frozenset[str]) -> None:
        self.interactive = ClassQueue()
        self.batch = ClassQueue()
        self._owners = owners
        self._clear()
        self._weigh(policy, weights)

    def configure(
        self,
        policy: DispatchPolicy,
        weights: Mapping[str, float],
        owners: frozenset[str],
        need_of: Callable[[Entry], Need],
    ) -> None:
        """Take other weights, owners and needs; nobody loses a place."""
        waiting = list(self)
        self._owners = owners
        self._clear()
        self._weigh(policy, weights)
        for entry in waiting:
            entry.need = need_of(entry)
            self.push(entry)

    def __iter__(self) -> Iterator[Entry]:
        """All waiting tickets, in order of arrival."""
        waiting = (item[3] for item in self._deadlines if item[3].waiting)
        return iter(sorted(waiting, key=lambda entry: entry.number))

    def queue_of(self, entry: Entry) -> ClassQueue:
        """The queue of its class."""
        return self.batch if entry.batch else self.interactive

    def of_organisation(self, organisation: str) -> int:
        """Tickets of one organisation."""
        return self._organisations.get(organisation, 0)

    def organisations(self) -> dict[str, int]:
        """Tickets by organisation."""
        return dict(self._organisations)

    def needs(self) -> list[FleetNeed]:
        """The different needs of those that wait."""
        return list(self._needs)

    def with_need(self, need: FleetNeed) -> list[Entry]:
        """Those that have this need; looks at all, so only for when something is wrong."""
        return [entry for entry in self if self._need_of(entry) == need]

    # -- in and out ----------------------------------------------------------------------------------------------------

    def push(self, entry: Entry) -> None:
        """It waits, for the first time or again in its old place."""
        entry.waiting = True
        self.live += 1
        organisation = entry.ticket.organisation
        self._organisations[organisation] = self._organisations.get(organisation, 0) + 1
        need = self._need_of(entry)
        self._needs[need] = self._needs.get(need, 0) + 1
        if not entry.private_only:
            self.queue_of(entry).push(entry)
            if entry.batch:
                self._batch_order.append(entry)
        if organisation in self._owners:
            lane = self.lanes.get(organisation)
            if lane is None:
                lane = self.lanes[organisation] = OwnerLane()
            lane.push(entry)
        # an earlier try of the same ticket may still stand there, dead: attempts tell them apart
        heappush(self._deadlines, (entry.ticket.deadline_s, entry.number, entry.attempts, entry))

    def leave(self, entry: Entry, *, charge: bool) -> None:
        """It waits no more; `charge` counts it against its organisation's share."""
        entry.waiting = False
        self.live -= 1
        organisation = entry.ticket.organisation
        _less(self._organisations, organisation)
        _less(self._needs, self._need_of(entry))
        if not entry.private_only:
            queue = self.queue_of(entry)
            if charge:
                queue.serve(entry)
            else:
                queue.left(entry)
        lane = self.lanes.get(organisation)
        if lane is not None:
            lane.left(entry)
            if not lane.live:
                del self.lanes[organisation]
        self._compact()

    def overdue(self, now: float) -> list[Entry]:
        """Those whose deadline has passed. They must be made to leave."""
        found, heap = [], self._deadlines
        while heap and (heap[0][0] <= now or not heap[0][3].waiting):
            entry = heappop(heap)[3]
            if entry.waiting:
                found.append(entry)
        return found

    def next_deadline_s(self) -> float:
        """The earliest deadline; infinity when nobody waits."""
        heap = self._deadlines
        while heap and not heap[0][3].waiting:
            heappop(heap)
        return heap[0][0] if heap else float("inf")

    def oldest_batch_s(self) -> float:
        """When the oldest batch ticket in the shared queue arrived; infinity when there is none."""
        order = self._batch_order
        while order and not order[0].waiting:
            order.popleft()
        return order[0].ticket.arrived_s if order else float("inf")

    def _need_of(self, entry: Entry) -> FleetNeed:
        organisation = entry.ticket.organisation
        return (entry.need, organisation if organisation in self._owners else "", entry.private_only)

    def _clear(self) -> None:
        self.interactive.clear()
        self.batch.clear()
        self.lanes: dict[str, OwnerLane] = {}
        """By organisation, of those that provide servers and wait."""
        self.live = 0
        self._organisations: dict[str, int] = {}
        self._deadlines: list[tuple[float, int, int, Entry]] = []
        self._batch_order: deque[Entry] = deque()
        self._needs: dict[FleetNeed, int] = {}

    def _weigh(self, policy: DispatchPolicy, weights: Mapping[str, float]) -> None:
        fair = policy.strategy is not Strategy.ROUND_ROBIN_PRIORITY
        self.interactive.configure(weights, fair=fair)
        self.batch.configure(weights, fair=fair)

    def _compact(self) -> None:
        heap, order = self._deadlines, self._batch_order
        if len(heap) > COMPACT_ABOVE and len(heap) > 2 * self.live:
            heap[:] = [item for item in heap if item[3].waiting]
            heapify(heap)
        if len(order) > COMPACT_ABOVE and len(order) > 2 * self.batch.live:
            self._batch_order = deque(entry for entry in order if entry.waiting)


def _less(counts: dict[Key, int], key: Key) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
