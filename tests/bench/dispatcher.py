"""`python -m tests.bench.dispatcher`: CPU of the dispatcher alone. Prints JSON; exit code 1 when a bar is missed.

A decision is one ticket that arrives and waits, and one lease that ends and lets the next ticket go: what the
dispatcher does for one request of a saturated model. Figures are the best of some rounds of process CPU time, so that
other work on the machine does not count.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Callable

from ilaas.core.catalogue import DispatchPolicy, ModelSpec, ServerSpec
from ilaas.core.dispatch.events import Effect, Grant, Settlement, Ticket
from ilaas.core.dispatch.scheduler import ModelScheduler
from ilaas.core.values import Outcome, RequestClass

DECISION_BAR_US = 30.0
UNCONTENDED_BAR_US = 14.0
"""With 7 servers, the making of the settlement and the noting of effects included."""
STORM_BAR_BYTES = 2_000_000
ROUNDS = 5
SLOTS = 20


class Bench:
    """A scheduler with so many servers and organisations, and tickets made beforehand."""

    def __init__(self, servers: int, organisations: int) -> None:
        self.now = 1_000.0
        self._numbers = itertools.count()
        self._organisations = organisations
        policy = DispatchPolicy(
            max_wait_s=1e9, batch_max_wait_s=1e9, max_queued=10**9, max_queued_per_organisation=10**9
        )
        specs = tuple(
            ServerSpec(
                id=f"s{number}",
                url=f"http://s{number}",
                site=f"o{number}",
                owner=f"o{number % 10}",
                served_name="m",
                max_parallel_requests=SLOTS,
            )
            for number in range(servers)
        )
        spec = ModelSpec(name="m", servers=specs, policy=policy)
        self.scheduler = ModelScheduler(spec, {f"o{n}": 1.0 + n % 4 for n in range(organisations)}, self.now)
        self.leases: deque[str] = deque()

    def tickets(self, count: int) -> list[Ticket]:
        """One in five is batch; prefixes and priorities differ."""
        numbers = [next(self._numbers) for _ in range(count)]
        return [
            Ticket(
                id=f"t{number}",
                model="m",
                organisation=f"o{number % self._organisations}",
                request_class=RequestClass.BATCH if number % 5 == 0 else RequestClass.INTERACTIVE,
                priority=number % 3,
                estimated_tokens=200 + number % 900,
                context_tokens=200 + number % 500,
                prefix_hash=number % 997,
                arrived_s=1_000.0,
            )
            for number in numbers
        ]

    def arrive(self, ticket: Ticket) -> None:
        """It is granted or waits."""
        self._note(self.scheduler.arrive(ticket, self.now))

    def settle_oldest(self) -> None:
        """The oldest lease ends."""
        name = self.leases.popleft()
        settlement = Settlement(ticket_id=name, outcome=Outcome.COMPLETED, tokens=400)
        self._note(self.scheduler.settle(settlement, self.now))

    def _note(self, effects: list[Effect]) -> None:
        self.leases.extend(effect.ticket.id for effect in effects if isinstance(effect, Grant))


def best_us(work: Callable[[], int]) -> float:
    """The least CPU in microseconds per item over some rounds; `work` does a round and tells the number of items."""
    found = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(ROUNDS):
            began = time.process_time_ns()
            items = work()
            found.append((time.process_time_ns() - began) / items / 1_000)
    finally:
        gc.enable()
    return min(found)


def decision_us(queued: int, servers: int = 50, organisations: int = 40) -> float:
    """A saturated model with so many tickets waiting all the time."""
    bench = Bench(servers, organisations)
    for ticket in bench.tickets(servers * SLOTS + queued):
        bench.arrive(ticket)
    count = 4_000
    rounds = iter([bench.tickets(count) for _ in range(ROUNDS)])

    def work() -> int:
        for ticket in next(rounds):
            bench.now += 0.001
            bench.arrive(ticket)
            bench.settle_oldest()
        return count

    return best_us(work)


def uncontended_us(servers: int) -> float:
    """Arrive, granted at once, first token, settle: on the path of every request of a model that is not saturated."""
    bench = Bench(servers, 40)
    for ticket in bench.tickets(3 * servers):  # something is under way, as ever
        bench.arrive(ticket)
    count = 5_000
    rounds = iter([bench.tickets(count) for _ in range(ROUNDS)])

    def work() -> int:
        scheduler = bench.scheduler
        for ticket in next(rounds):
            bench.now += 0.01
            bench.arrive(ticket)
            scheduler.first_token(bench.leases[0], 0.2, bench.now)
            bench.settle_oldest()
        return count

    return best_us(work)


def storm_bytes(waves: int = 100, tickets: int = 1_000) -> int:
    """Clients that come and leave the queue again, wave after wave: what stays."""
    bench = Bench(5, 40)
    for ticket in bench.tickets(5 * SLOTS + 10):
        bench.arrive(ticket)
    tracemalloc.start()
    try:
        for _ in range(waves):
            coming = bench.tickets(tickets)
            for ticket in coming:
                bench.arrive(ticket)
            for ticket in coming:
                bench.scheduler.cancel(ticket.id, bench.now)
            del coming, ticket
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def main() -> int:
    """Measure, print, judge."""
    sizes = (1_000, 10_000, 100_000)
    decisions = {size: decision_us(size) for size in sizes}
    alone = {servers: uncontended_us(servers) for servers in (1, 7)}
    growth = decisions[sizes[-1]] / decisions[sizes[0]]
    growth_bar = math.log(sizes[-1]) / math.log(sizes[0])
    kept = storm_bytes()
    bars = {
        "decision at 10,000 queued": decisions[10_000] <= DECISION_BAR_US,
        "growth from 1,000 to 100,000 queued": growth <= growth_bar,
        "uncontended, 7 servers": alone[7] <= UNCONTENDED_BAR_US,
        "memory kept after 100,000 cancels": kept <= STORM_BAR_BYTES,
    }
    figures = {
        "decision_us": {str(size): round(cost, 2) for size, cost in decisions.items()},
        "decision_bar_us": DECISION_BAR_US,
        "growth": round(growth, 2),
        "growth_bar": round(growth_bar, 2),
        "uncontended_us": {f"{servers} servers": round(cost, 2) for servers, cost in alone.items()},
        "uncontended_bar_us": UNCONTENDED_BAR_US,
        "storm_kept_bytes": kept,
        "storm_bar_bytes": STORM_BAR_BYTES,
        "met": bars,
    }
    print(json.dumps(figures, indent=2))
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
