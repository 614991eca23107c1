"""Reports as people read them."""

from __future__ import annotations

import pytest

from ilaas.adapters.store_memory import MemoryStore
from ilaas.core.errors import InvalidRequest
from ilaas.core.periods import DAY_S, Period
from ilaas.core.rollups import Dimension
from ilaas.core.values import RequestClass
from ilaas.services.reporting import dashboard, report, totals_value
from tests.contract.samples import record

TODAY = 20_000
NOW_S = TODAY * DAY_S + 3600.0
D = Dimension


def at(day: int) -> int:
    return day * DAY_S * 1000 + 5


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    tokens = {"prompt_tokens": 10, "completion_tokens": 5}
    await store.add_usage(
        [
            record(1, finished_at_ms=at(TODAY), model="llama", organisation="Lille", **tokens),
            record(2, finished_at_ms=at(TODAY - 9), model="mistral", organisation="Lyon", **tokens),
            record(3, finished_at_ms=at(TODAY - 9), model="mistral", organisation="Lille", project="x", **tokens),
            record(4, finished_at_ms=at(TODAY - 10), model="old", organisation="Lille", **tokens),
            record(5, finished_at_ms=at(TODAY - 29), organisation="Lille", request_class=RequestClass.BATCH, **tokens),
            record(6, finished_at_ms=at(TODAY - 30), organisation="Lille", **tokens),
            record(7, finished_at_ms=at(TODAY + 1), organisation="Lille", **tokens),
        ]
    )
    return store


async def test_the_dashboard_has_tokens_of_30_days_and_shares_of_10(store: MemoryStore) -> None:
    shown = await dashboard(store, NOW_S)
    assert len(shown.tokens) == 30
    assert (next(iter(shown.tokens)), list(shown.tokens)[-1]) == ("2024-09-05", "2024-10-04")
    assert [totals.tokens for totals in shown.tokens.values() if totals.requests] == [15, 15, 30, 15]
    assert shown.total.requests == 5
    assert list(shown.shares.items()) == [("mistral", 2), ("llama", 1)]


async def test_a_dashboard_of_one_organisation_has_nothing_of_others(store: MemoryStore) -> None:
    shown = await dashboard(store, NOW_S, frozenset({"Lyon"}))
    assert (shown.total.requests, dict(shown.shares)) == (1, {"mistral": 1})


async def test_projects_are_told_apart_by_their_organisation(store: MemoryStore) -> None:
    found = await report(store, Period.last_days(10, NOW_S), [D.PROJECT])
    assert found.columns == (D.ORGANISATION, D.PROJECT)
    assert [line.values for line in found.lines] == [
        ("Lille", "linguistique"),
        ("Lille", "x"),
        ("Lyon", "linguistique"),
    ]
    assert found.total.requests == sum(line.totals.requests for line in found.lines) == 3


async def test_days_and_hours_are_written_as_dates(store: MemoryStore) -> None:
    by_day = await report(store, Period.last_days(1, NOW_S), [D.DAY])
    by_hour = await report(store, Period.last_days(1, NOW_S), [D.HOUR])
    assert [line.values for line in (*by_day.lines, *by_hour.lines)] == [("2024-10-04",), ("2024-10-04T00:00Z",)]


async def test_a_report_that_is_not_kept_is_refused_with_the_remedy(store: MemoryStore) -> None:
    with pytest.raises(InvalidRequest, match="ask for days"):
        await report(store, Period.last_days(1, NOW_S), [D.HOUR, D.KEY])


async def test_an_impact_that_nobody_knows_is_not_zero(store: MemoryStore) -> None:
    assert totals_value((await dashboard(store, NOW_S)).total)["impact"] is None
    await store.add_usage([record(9, finished_at_ms=at(TODAY), impact_method="ecologits 0.8", energy_mj=42)])
    assert totals_value((await dashboard(store, NOW_S)).total)["impact"]["energy_mj"] == 42
