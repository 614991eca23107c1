"""One suite for the books, run on every store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from ilaas.adapters.sql import SqlStore
from ilaas.adapters.sql.engine import database_url as parsed_url
from ilaas.core.billing import Quantities, Rates, Tariff, TariffBook
from ilaas.core.errors import Conflict
from ilaas.core.fairness import FairWeight
from ilaas.core.periods import Month
from ilaas.core.statements import LineKind, Statement, StatementLine
from tests.contract.conftest import SECRET, Harness
from tests.contract.samples import line

OCTOBER = Month(2026, 10)
RATES = Rates(
    prompt_per_million=10**12, completion_per_million=2, cached_per_million=0, per_request=4, audio_per_hour=5
)
TARIFF = Tariff(
    model="Mistral/é", valid_from=date(2026, 1, 1), valid_to=date(2026, 6, 30), rates=RATES, credit=Rates(per_request=3)
)
OPEN = Tariff(model="llama", valid_from=date(2026, 1, 1), rates=Rates(prompt_per_million=7))


def adding(*tariffs: Tariff, end_previous: bool = False) -> Callable[[TariffBook], TariffBook]:
    def change(book: TariffBook) -> TariffBook:
        for tariff in tariffs:
            book = book.adding(tariff, end_previous=end_previous)[0]
        return book

    return change


def statement(organisation: str = "Lille", month: Month = OCTOBER, cents: int = 2**40) -> Statement:
    first = StatementLine(
        kind=LineKind.CONSUMED,
        usage_month=month.plus(-1),
        model="llama",
        counterparty="Université de Lyon",
        used=Quantities(-1, -2, -3, -4, -5),
        micro_eur=-60_001,
        cents=-6,
    )
    second = StatementLine(
        kind=LineKind.CONTRIBUTED,
        usage_month=month,
        model="Mistral/é",
        counterparty="Lyon",
        used=Quantities(1, 2**50, 3, 4, 5),
        micro_eur=cents * 10_000,
        cents=cents,
    )
    return Statement(organisation=organisation, month=month, lines=(second, first), closed_at_s=1_800_000_000.25)


async def test_tariffs_come_back_as_they_were_set_and_gateways_notice(harness: Harness) -> None:
    store = harness.store
    before = await store.revision()
    book = await store.change_tariffs(adding(TARIFF, OPEN), line("tariff.set"))
    assert list(await harness.another().tariffs()) == [TARIFF, OPEN] == list(book.tariffs)
    assert await store.revision() > before
    assert [each.action for each in await store.audit()] == ["tariff.set"]


async def test_a_tariff_that_ends_another_changes_both_at_once(harness: Harness) -> None:
    store = harness.store
    await store.change_tariffs(adding(OPEN), line())
    new = Tariff(model="llama", valid_from=date(2026, 7, 1))
    await store.change_tariffs(adding(new, end_previous=True), line())
    assert [(each.valid_from, each.valid_to) for each in await store.tariffs()] == [
        (date(2026, 1, 1), date(2026, 6, 30)),
        (date(2026, 7, 1), None),
    ]


async def test_an_overlapping_tariff_is_refused_and_nothing_is_written(harness: Harness) -> None:
    store = harness.store
    await store.change_tariffs(adding(OPEN), line())
    revision = await store.revision()
    with pytest.raises(Conflict, match="overlaps"):
        await store.change_tariffs(adding(Tariff(model="llama", valid_from=date(2027, 1, 1))), line("refused"))
    assert list(await store.tariffs()) == [OPEN]
    assert await store.revision() == revision
    assert "refused" not in [each.action for each in await store.audit()]


async def test_closed_statements_come_back_with_their_lines_in_order(harness: Harness) -> None:
    store = harness.store
    lille, lyon = statement("Lille"), statement("Lyon", cents=0)
    empty = Statement(organisation="Nantes", month=OCTOBER, closed_at_s=1_800_000_000.25)
    await store.close_month(OCTOBER, [lille, lyon, empty], line("statement.closed"))
    another = harness.another()
    assert list(await another.statements(OCTOBER)) == [lille, lyon, empty]
    assert list(await another.statements(OCTOBER, organisation="Lyon")) == [lyon]
    assert list(await another.statements(OCTOBER, organisation="nobody")) == []
    assert list(await another.statements(OCTOBER.plus(1))) == []
    assert list(await another.closed_months()) == [OCTOBER]


async def test_a_month_is_closed_once_and_in_order(harness: Harness) -> None:
    store = harness.store
    await store.close_month(OCTOBER, [statement()], line())
    with pytest.raises(Conflict, match="are closed"):
        await store.close_month(OCTOBER, [statement("Lyon")], line("again"))
    with pytest.raises(Conflict, match="2026-11"):
        await store.close_month(OCTOBER.plus(2), [statement(month=OCTOBER.plus(2))], line("again"))
    assert list(await store.statements(OCTOBER)) == [statement()]
    assert "again" not in [each.action for each in await store.audit()]
    november = statement(month=OCTOBER.plus(1))
    await store.close_month(OCTOBER.plus(1), [november], line())
    assert list(await store.booked(OCTOBER)) == [statement(), november]
    assert list(await store.booked(OCTOBER.plus(1))) == [november]


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE statements SET net_cents = 0",
        "DELETE FROM statements",
        "UPDATE statement_lines SET cents = cents + 1",
        "DELETE FROM statement_lines",
        "TRUNCATE statement_lines",
    ],
)
async def test_the_database_itself_refuses_to_change_a_closed_statement(database_url: str, attack: str) -> None:
    if attack.startswith("TRUNCATE") and database_url.startswith("sqlite"):
        pytest.skip("SQLite has no TRUNCATE")
    store = SqlStore(database_url, SECRET)
    await store.open()
    await store.close_month(OCTOBER, [statement()], line())
    engine = create_async_engine(parsed_url(database_url))
    with pytest.raises(Exception, match="append-only"):
        async with engine.begin() as connection:
            await connection.execute(text(attack))
    await engine.dispose()
    assert list(await store.statements(OCTOBER)) == [statement()]
    await store.close()


def weights(*names: str, weight: float = 2.5) -> Sequence[FairWeight]:
    return [
        FairWeight(
            organisation=name, weight=weight, by_hand=True, contributed_tokens=2**45, consumed_tokens=3, at_s=1.5
        )
        for name in names
    ]


async def test_fair_weights_are_kept_and_unchanged_ones_bother_nobody(harness: Harness) -> None:
    store = harness.store
    assert await store.put_fair_weights(weights("Lyon", "Lille"), line())
    revision = await store.revision()
    assert not await store.put_fair_weights(weights("Lyon"), line("for nothing"))
    assert await store.revision() == revision
    assert await store.put_fair_weights(weights("Lyon", weight=0.5), line())
    assert list(await harness.another().fair_weights()) == [*weights("Lille"), *weights("Lyon", weight=0.5)]
    assert await store.drop_fair_weight("Lyon", line())
    assert not await store.drop_fair_weight("Lyon", line("for nothing"))
    assert list(await store.fair_weights()) == list(weights("Lille"))
    assert "for nothing" not in [each.action for each in await store.audit()]
