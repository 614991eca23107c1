"""Roll-ups equal the sum of the records, whatever the order they come in and however often; on every store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from ilaas.adapters.sql import SqlStore
from ilaas.adapters.sql.engine import database_url as parsed_url
from ilaas.adapters.sql.migrations.versions import v0001_foundation, v0002_tenancy
from ilaas.adapters.sql.tables import USAGE_RECORDS
from ilaas.core.errors import Unprocessable
from ilaas.core.periods import DAY_S, Period
from ilaas.core.rollups import Dimension, Totals, UsageLine, UsageQuery, total_of
from ilaas.core.summing import HOUR_MS
from ilaas.core.usage import UsageRecord
from ilaas.core.values import Outcome, RequestClass
from ilaas.ports.store import Store
from ilaas.ports.usage import RecordFilter
from ilaas.services.retention import apply_retention
from tests.contract.conftest import SECRET, Harness
from tests.contract.samples import LILLE, key, line, record

DAY_MS = DAY_S * 1000
FIRST_DAY = 20_000
DAYS = 4
PERIOD = Period(FIRST_DAY, FIRST_DAY + DAYS)
D = Dimension


@pytest.fixture
def store(harness: Harness) -> Store:
    return harness.store


def some_record(number: int, rng: random.Random) -> UsageRecord:
    return record(
        number,
        finished_at_ms=FIRST_DAY * DAY_MS + rng.choice([0, HOUR_MS - 1, rng.randrange(DAYS * DAY_MS)]),
        organisation=rng.choice(["Lille", "Lyon"]),
        project=rng.choice(["corpus", "cours"]),
        key_id=f"key_{rng.randrange(3)}",
        model=rng.choice(["mistral", "llama"]),
        server=rng.choice(["", "lyon-1"]),
        site=rng.choice(["lyon", "Évry"]),
        request_class=rng.choice(list(RequestClass)),
        outcome=rng.choice([Outcome.COMPLETED, Outcome.STREAM_BROKEN]),
        prompt_tokens=rng.randrange(2**40),
        completion_tokens=rng.randrange(100),
        estimated=rng.random() < 0.3,
        price_micro_eur=rng.randrange(10**6),
        energy_mj=rng.randrange(10**6),
        co2e_ug=rng.randrange(10**6),
        impact_method=rng.choice(["", "unknown", "ecologits 0.8"]),
        energy_measured=rng.random() < 0.3,
    )


def expected(records: Sequence[UsageRecord], query: UsageQuery) -> list[UsageLine]:
    """What the records themselves say."""

    def value(one: UsageRecord, dimension: Dimension) -> str | int:
        if dimension is D.DAY:
            return one.finished_at_ms // DAY_MS
        return one.finished_at_ms // HOUR_MS if dimension is D.HOUR else str(getattr(one, dimension.column))

    lines: dict[tuple[str | int, ...], Totals] = {}
    for one in records:
        if not query.period.start_ms <= one.finished_at_ms < query.period.end_ms:
            continue
        if any(value(one, dimension) not in values for dimension, values in query.where.items()):
            continue
        totals = lines.setdefault(tuple(value(one, dimension) for dimension in query.by), Totals())
        counts = {
            "requests": 1,
            "completed": one.outcome is Outcome.COMPLETED,
            "estimated": one.estimated,
            "impact_known": one.impact_method == "ecologits 0.8",
            "energy_measured": one.energy_measured,
        }
        amounts = {name: getattr(one, name) for name in Totals.__slots__ if name not in counts}
        totals.add(Totals(**counts, **amounts))
    return [UsageLine(values, lines[values]) for values in sorted(lines)]


QUERIES = [
    UsageQuery(period=PERIOD),
    UsageQuery(period=PERIOD, by=(D.DAY,)),
    UsageQuery(period=PERIOD, by=(D.HOUR, D.SITE)),
    UsageQuery(period=Period(FIRST_DAY + 1, FIRST_DAY + 2), by=(D.HOUR, D.OUTCOME)),
    UsageQuery(period=PERIOD, by=(D.ORGANISATION, D.PROJECT, D.KEY)),
    UsageQuery(period=PERIOD, by=(D.MODEL,), where={D.ORGANISATION: frozenset({"Lyon"})}),
    UsageQuery(
        period=Period(FIRST_DAY + 1, FIRST_DAY + 3), by=(D.CLASS, D.SERVER), where={D.KEY: frozenset({"key_1"})}
    ),
    UsageQuery(period=Period(1, 2), by=(D.MODEL,)),
]


@pytest.mark.parametrize("seed", range(3))
async def test_reports_equal_the_sum_of_the_records_in_any_order_of_arrival_with_duplicates(
    store: Store, seed: int
) -> None:
    rng = random.Random(seed)
    records = [some_record(number, rng) for number in range(200)]
    arrivals = records + rng.choices(records, k=150)
    rng.shuffle(arrivals)
    new = 0
    while arrivals:
        size = rng.choice([1, 2, 40])
        batch, arrivals = arrivals[:size], arrivals[size:]
        new += await store.add_usage(batch)
    assert new == len(records)
    for query in QUERIES:
        assert await store.usage_lines(query) == expected(records, query)
        assert total_of(await store.usage_lines(query)) == total_of(await store.usage_lines(replace(query, by=())))


async def test_a_late_record_changes_the_sums_of_its_own_hour_and_day(store: Store) -> None:
    early, late = record(1, finished_at_ms=FIRST_DAY * DAY_MS), record(2, finished_at_ms=FIRST_DAY * DAY_MS + 1)
    await store.add_usage([early])
    await store.add_usage([record(3, finished_at_ms=(FIRST_DAY + 3) * DAY_MS)])
    await store.add_usage([late])
    hours = await store.usage_lines(UsageQuery(period=PERIOD, by=(D.HOUR,)))
    assert [(one.values, one.totals.requests) for one in hours] == [
        ((FIRST_DAY * 24,), 2),
        (((FIRST_DAY + 3) * 24,), 1),
    ]


async def test_two_gateways_that_add_the_same_records_at_once_count_them_once(store: Store, harness: Harness) -> None:
    other = harness.another()
    await other.open()
    rng = random.Random(1)
    records = [some_record(number, rng) for number in range(300)]
    batches = [rng.sample(records, 60) for _ in range(12)] + [records[:150], records[150:]]
    new = await asyncio.gather(*((store, other)[at % 2].add_usage(batch) for at, batch in enumerate(batches)))
    assert sum(new) == len(records)
    for query in QUERIES:
        assert await store.usage_lines(query) == expected(records, query)


async def test_a_batch_that_is_refused_leaves_the_sums_alone(store: Store) -> None:
    await store.add_usage([record(1)])
    before = await store.usage_lines(UsageQuery(period=Period(0, 100_000)))
    with pytest.raises(Unprocessable):
        await store.add_usage([record(2), record(3, prompt_tokens=2**63)])
    assert await store.usage_lines(UsageQuery(period=Period(0, 100_000))) == before


async def test_hours_by_key_are_not_kept(store: Store) -> None:
    with pytest.raises(ValueError, match="days"):
        await store.usage_lines(UsageQuery(period=PERIOD, by=(D.HOUR, D.KEY)))


async def test_single_records_come_page_by_page_each_once(store: Store) -> None:
    rng = random.Random(2)
    records = [some_record(number, rng) for number in range(100)]
    await store.add_usage(records)
    which = RecordFilter(
        period=Period(FIRST_DAY, FIRST_DAY + 2),
        where={D.ORGANISATION: frozenset({"Lille"}), D.CLASS: frozenset({"batch"})},
    )
    wanted = [
        one
        for one in records
        if one.finished_at_ms < (FIRST_DAY + 2) * DAY_MS
        and one.organisation == "Lille"
        and one.request_class is RequestClass.BATCH
    ]
    found: list[UsageRecord] = []
    after = None
    while page := await store.page_of_usage(which, after, 3):
        found += page
        after = (page[-1].finished_at_ms, page[-1].id)
    assert [one.finished_at_ms for one in found] == sorted(one.finished_at_ms for one in wanted)
    assert {one.id: one for one in found} == {one.id: one for one in wanted}
    assert len(found) == len(wanted) > 3


async def test_retention_deletes_old_records_and_keeps_every_sum(store: Store) -> None:
    rng = random.Random(3)
    records = [some_record(number, rng) for number in range(100)]
    await store.add_usage(records)
    now_s = (FIRST_DAY + 3) * DAY_S + 3600.0
    gone = [one for one in records if one.finished_at_ms < (FIRST_DAY + 1) * DAY_MS]
    assert await apply_retention(store, now_s, 2) == len(gone) > 0
    assert await apply_retention(store, now_s, 2) == 0
    left = await store.page_of_usage(RecordFilter(period=PERIOD), None, 1000)
    assert {one.id for one in left} == {one.id for one in records} - {one.id for one in gone}
    for query in QUERIES:
        assert await store.usage_lines(query) == expected(records, query)
    assert await apply_retention(store, now_s + 100 * DAY_S, 2) == len(left)
    await store.add_usage([some_record(1000, rng)])
    (total,) = await store.usage_lines(UsageQuery(period=PERIOD))
    assert total.totals.requests == len(records) + 1


async def test_records_of_an_earlier_version_are_rolled_up_by_the_migration(database_url: str) -> None:
    rng = random.Random(4)
    records = [some_record(number, rng) for number in range(50)]

    def make_second_version(connection: Connection) -> None:
        operations = Operations(MigrationContext.configure(connection))
        v0001_foundation.upgrade(operations)
        v0002_tenancy.upgrade(operations)
        connection.execute(USAGE_RECORDS.insert(), [asdict(one) for one in records])
        connection.execute(text("CREATE TABLE ilaas_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO ilaas_version VALUES ('0002')"))

    engine = create_async_engine(parsed_url(database_url))
    async with engine.begin() as connection:
        await connection.run_sync(make_second_version)
    await engine.dispose()
    store = SqlStore(database_url, SECRET)
    await store.open()
    for query in QUERIES:
        assert await store.usage_lines(query) == expected(records, query)
    await store.close()


METRICS = [
    "id",
    "user_name",
    "user_organization",
    "request_date",
    "sent_to_llm_date",
    "response_date",
    "model",
    "server",
    "server_organization",
    "prompt_tokens",
    "completion_tokens",
    "strategy",
    "requeue_count",
    "max_parallel_requests",
    "current_parallel_requests",
    "priority",
    "performance_score",
    "routing_mode",
]
"""contracts/aristote-dispatcher, A5."""


async def test_dashboards_of_todays_dispatcher_find_its_metrics(database_url: str) -> None:
    store = SqlStore(database_url, SECRET)
    await store.open()
    await store.add_organisation(LILLE, line())
    await store.add_key(key(), line())
    await store.add_usage(
        [
            record(1, queue_ms=500, duration_ms=2000, prompt_tokens=7),
            record(2, estimated=True),
            record(3, server="", outcome=Outcome.REFUSED_BUSY),
        ]
    )
    await store.close()
    engine = create_async_engine(parsed_url(database_url))
    async with engine.connect() as connection:
        found = (await connection.execute(text("SELECT * FROM metrics ORDER BY id"))).mappings().all()
        seconds = await connection.execute(text(SECONDS[connection.dialect.name]))
        assert [tuple(map(round, row)) for row in seconds] == [(500, 1500)]
    await engine.dispose()
    assert list(found[0]) == METRICS
    assert [row["id"] for row in found] == ["request-1", "request-2"]
    one, estimated = found
    assert (one["user_name"], one["user_organization"], one["model"]) == ("name of key_1", LILLE.name, "mistral")
    assert (one["prompt_tokens"], one["requeue_count"], one["routing_mode"]) == (7, 1, "private-first")
    assert estimated["prompt_tokens"] is None


SECONDS = {
    "sqlite": "SELECT (julianday(sent_to_llm_date) - julianday(request_date)) * 86400000, "
    "(julianday(response_date) - julianday(sent_to_llm_date)) * 86400000 FROM metrics WHERE id = 'request-1'",
    "postgresql": "SELECT extract(epoch FROM sent_to_llm_date - request_date) * 1000, "
    "extract(epoch FROM response_date - sent_to_llm_date) * 1000 FROM metrics WHERE id = 'request-1'",
}


async def test_a_metrics_table_of_todays_dispatcher_in_the_same_database_is_left_alone(database_url: str) -> None:
    engine = create_async_engine(parsed_url(database_url))
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE metrics (id INTEGER PRIMARY KEY, user_name VARCHAR(255))"))
        await connection.execute(text("INSERT INTO metrics VALUES (1, 'lille')"))
    store = SqlStore(database_url, SECRET)
    await store.open()
    await store.close()
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT * FROM metrics"))).all() == [(1, "lille")]
    await engine.dispose()
