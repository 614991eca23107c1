"""What governance does, on the store's twin."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from typing import Any

import pytest

from ilaas.adapters.statement_pdf import statements_pdf
from ilaas.adapters.statement_words import WORDS, Language
from ilaas.adapters.store_memory import MemoryStore
from ilaas.core.billing import PriceBook, Rates, Tariff
from ilaas.core.errors import Conflict, InvalidRequest, NotFound
from ilaas.core.periods import Month
from ilaas.core.statements import LineKind
from ilaas.core.tenancy import Organisation
from ilaas.core.usage import Usage, UsageRecord
from ilaas.core.values import Outcome
from ilaas.ports.tenancy import AuditLine
from ilaas.services.settlement import Settlement
from ilaas.services.statement_csv import statements_csv
from tests.contract.samples import record

OCTOBER = Month(2026, 10)


class Federation:
    """Lille, Lyon and Nantes with a store, a clock and a gateway's way to price."""

    def __init__(self) -> None:
        self.now_s = float(OCTOBER.start_s)
        self.store = MemoryStore(lambda: self.now_s)
        self.settlement = Settlement(self.store, lambda: self.now_s)
        self._number = 0

    async def open(self) -> Federation:
        for name in ("Lille", "Lyon", "Nantes"):
            audit = AuditLine(at_s=0.0, actor="test", action="organisation.created", subject=name)
            await self.store.put_organisation(Organisation(name=name), audit)
        return self

    async def use(self, consumer: str, owner: str, tokens: int, day: int = 5, **changes: Any) -> UsageRecord:
        self._number += 1
        month = changes.pop("month", OCTOBER)
        at_s = datetime(month.year, month.month, day, tzinfo=UTC).timestamp()
        whole = {"prompt_tokens": tokens, "completion_tokens": 0, "cached_tokens": 0, "outcome": Outcome.COMPLETED}
        used = record(
            self._number,
            organisation=consumer,
            owner=owner,
            finished_at_ms=int(at_s * 1000) + self._number,
            **{**whole, **changes},
        )
        prices = PriceBook(await self.store.tariffs())
        used.price_micro_eur = prices.price("mistral", Usage(tokens), consumer == owner, at_s)
        await self.store.add_usage([used])
        return used

    async def tariff(self, rate: int = 1_000_000, first: date = date(2026, 10, 1), **changes: Any) -> None:
        await self.settlement.set_tariff(
            Tariff(model="mistral", valid_from=first, rates=Rates(prompt_per_million=rate), **changes),
            end_previous=True,
        )

    def end_of(self, month: Month) -> None:
        self.now_s = float(month.end_s)


@pytest.fixture
async def federation() -> Federation:
    return await Federation().open()


async def test_a_month_is_closed_to_the_cent_for_both_sides(federation: Federation) -> None:
    await federation.tariff()
    await federation.use("Lille", "Lyon", 2_345_678)
    await federation.use("Nantes", "Lyon", 1_000_000)
    await federation.use("Lyon", "Nantes", 4_000)
    await federation.use("Lyon", "Lyon", 9_000_000)
    federation.end_of(OCTOBER)
    closing = await federation.settlement.close(OCTOBER, actor="treasurer")
    nets = {each.organisation: each.net_cents for each in closing.books.statements}
    assert nets == {"Lille": -235, "Lyon": 335, "Nantes": -100}
    assert closing.unpriced == ()
    kept = await federation.settlement.statements(OCTOBER)
    assert tuple(kept) == closing.books.statements
    newest = (await federation.store.audit(limit=1))[0]
    assert (newest.actor, newest.action, newest.subject) == ("treasurer", "statement.closed", "month:2026-10")


async def test_late_usage_comes_as_a_correction_in_the_next_month_and_the_closed_books_stay(
    federation: Federation,
) -> None:
    await federation.tariff()
    await federation.use("Lille", "Lyon", 1_000_000)
    federation.end_of(OCTOBER)
    before = (await federation.settlement.close(OCTOBER)).books.statements
    await federation.use("Lille", "Lyon", 500_000, day=31)
    november = OCTOBER.plus(1)
    await federation.use("Lille", "Lyon", 2_000_000, month=november)
    federation.end_of(november)
    closing = await federation.settlement.close(november)
    lille = next(each for each in closing.books.statements if each.organisation == "Lille")
    assert [(str(line.usage_month), line.cents) for line in lille.lines] == [("2026-10", 50), ("2026-11", 200)]
    assert tuple(await federation.settlement.statements(OCTOBER)) == before
    federation.end_of(november.plus(1))
    december = await federation.settlement.close(november.plus(1))
    assert all(not each.lines for each in december.books.statements)


async def test_single_records_deleted_by_retention_change_nothing_in_the_books(federation: Federation) -> None:
    await federation.tariff()
    await federation.use("Lille", "Lyon", 1_000_000)
    federation.end_of(OCTOBER)
    await federation.settlement.close(OCTOBER)
    await federation.store.delete_usage(OCTOBER.end_s * 1000, 100)
    federation.end_of(OCTOBER.plus(1))
    closing = await federation.settlement.close(OCTOBER.plus(1))
    assert all(not each.lines for each in closing.books.statements)


async def test_a_tariff_that_changes_within_the_month_prices_each_request_by_its_day(federation: Federation) -> None:
    await federation.tariff(rate=1_000_000)
    await federation.tariff(rate=3_000_000, first=date(2026, 10, 16), credit=Rates(prompt_per_million=2_000_000))
    await federation.use("Lille", "Lyon", 1_000_000, day=15)
    await federation.use("Lille", "Lyon", 1_000_000, day=16)
    federation.end_of(OCTOBER)
    closing = await federation.settlement.close(OCTOBER)
    lille, lyon, _ = closing.books.statements
    assert (lille.consumed_cents, lyon.contributed_cents) == (400, 300)
    assert closing.books.federation_cents == 100


async def test_a_server_that_failed_is_not_credited_by_a_credit_tariff(federation: Federation) -> None:
    await federation.tariff(credit=Rates(per_request=10_000))
    await federation.use("Lille", "Lyon", 0)
    await federation.use("Lille", "Lyon", 0, outcome=Outcome.CONNECT_FAILED)
    closing = await federation.settlement.preview(OCTOBER)
    assert next(each for each in closing.books.statements if each.organisation == "Lyon").contributed_cents == 1


async def test_a_preview_says_what_had_no_price_and_writes_nothing(federation: Federation) -> None:
    await federation.use("Lille", "Lyon", 1_000)
    await federation.use("Lille", "Lille", 1_000, model="llama")
    revision = await federation.store.revision()
    closing = await federation.settlement.preview(OCTOBER)
    assert closing.unpriced == ("mistral",)
    assert not closing.over
    assert closing.books.statements[0].closed_at_s is None
    assert await federation.store.revision() == revision


async def test_books_are_closed_in_order_once_and_only_when_the_month_is_over(federation: Federation) -> None:
    with pytest.raises(InvalidRequest, match="not over"):
        await federation.settlement.close(OCTOBER)
    federation.end_of(OCTOBER.plus(2))
    await federation.settlement.close(OCTOBER)
    with pytest.raises(Conflict, match="are closed"):
        await federation.settlement.close(OCTOBER)
    with pytest.raises(Conflict, match="are closed"):
        await federation.settlement.preview(OCTOBER)
    with pytest.raises(Conflict, match="2026-11, not 2026-12"):
        await federation.settlement.close(OCTOBER.plus(2))
    with pytest.raises(Conflict, match="not settled"):
        await federation.settlement.preview(OCTOBER.plus(-1))
    with pytest.raises(NotFound, match="not closed"):
        await federation.settlement.statements(OCTOBER.plus(1))
    with pytest.raises(NotFound, match="no statement of 'Brest'"):
        await federation.settlement.statements(OCTOBER, "Brest")


async def test_a_tariff_never_reprices_the_past(federation: Federation) -> None:
    with pytest.raises(InvalidRequest, match="today"):
        await federation.tariff(first=date(2026, 9, 30))
    await federation.tariff()
    with pytest.raises(Conflict, match="overlaps"):
        await federation.settlement.set_tariff(Tariff(model="mistral", valid_from=date(2026, 12, 1)))


async def test_weights_follow_contribution_save_those_set_by_hand(federation: Federation) -> None:
    await federation.use("Lille", "Lyon", 100_000_000)
    await federation.use("Nantes", "Lyon", 190_000_000)
    federation.now_s += 10 * 86_400
    await federation.settlement.set_weight("Lille", 1.0)
    changed = await federation.settlement.refresh_weights()
    assert {each.organisation: each.weight for each in changed} == {"Lyon": 4.0, "Nantes": 0.5}
    assert not await federation.settlement.refresh_weights()
    lines = {each.organisation: (each.weight, each.source) for each in await federation.settlement.weights()}
    assert lines == {"Lille": (1.0, "by hand"), "Lyon": (4.0, "formula"), "Nantes": (0.5, "formula")}
    await federation.settlement.unset_weight("Lille")
    await federation.settlement.refresh_weights()
    assert (await federation.settlement.weights())[0].weight == 0.5
    with pytest.raises(NotFound, match="Brest"):
        await federation.settlement.set_weight("Brest", 2.0)
    with pytest.raises(InvalidRequest, match="at most 1000"):
        await federation.settlement.set_weight("Lille", 5000.0)


async def test_organisations_of_the_configuration_file_have_statements_and_their_weights(
    federation: Federation,
) -> None:
    settlement = Settlement(federation.store, lambda: federation.now_s, {"Brest": 3.0, "Lyon": 2.0})
    await settlement.refresh_weights()
    found = {each.organisation: (each.weight, each.source) for each in await settlement.weights()}
    assert found["Brest"] == (3.0, "configured")
    assert found["Lyon"] == (2.0, "configured")
    assert found["Lille"] == (1.0, "formula")
    books = (await settlement.preview(OCTOBER)).books
    assert [each.organisation for each in books.statements] == ["Brest", "Lille", "Lyon", "Nantes"]


async def test_use_older_than_the_window_weighs_nothing(federation: Federation) -> None:
    await federation.use("Lille", "Lyon", 10**10, day=1)
    federation.now_s += 90 * 86_400
    assert {each.weight for each in await federation.settlement.refresh_weights()} == {1.0}


# -- what is exported --------------------------------------------------------------------------------------------------


async def closed(federation: Federation) -> Any:
    await federation.tariff()
    await federation.use("Lille", "Lyon", 2_345_678)
    await federation.use("Lille", "Lille", 50, day=6, model="=cmd()")
    federation.end_of(OCTOBER)
    return (await federation.settlement.close(OCTOBER)).books.statements


async def test_the_csvs_lines_add_up_to_its_totals_and_hold_no_formula(federation: Federation) -> None:
    rows = list(csv.DictReader(io.StringIO(statements_csv(await closed(federation)))))
    lille = [row for row in rows if row["organisation"] == "Lille"]
    consumed = sum(round(float(row["amount_eur"]) * 100) for row in lille if row["kind"] == LineKind.CONSUMED)
    totals = {row["kind"]: row["amount_eur"] for row in lille if not row["usage_month"]}
    assert consumed == 235
    assert totals == {"total consumed": "2.35", "total contributed": "0.00", "net": "-2.35"}
    assert "'=cmd()" in {row["model"] for row in lille}


async def test_the_pdf_has_a_page_for_each_institution_and_the_same_books_make_the_same_bytes(
    federation: Federation,
) -> None:
    statements = await closed(federation)
    for language in Language:
        first = statements_pdf(statements, language, "Fédération d'essai")
        assert first.startswith(b"%PDF-")
        assert first.count(b"/Type /Page\n") == 3
        assert first == statements_pdf(statements, language, "Fédération d'essai")


def test_amounts_are_written_as_each_language_has_them() -> None:
    assert WORDS[Language.FRENCH].money(-123_456) == "\u22121\u202f234,56\u00a0€"
    assert WORDS[Language.ENGLISH].money(-123_456) == "\u2212€1,234.56"
    assert WORDS[Language.ENGLISH].days(Month(2028, 2)) == "Period: 1 to 29 February 2028 (UTC)"
    assert WORDS[Language.FRENCH].days(OCTOBER) == "Période : du 1er au 31 octobre 2026 (UTC)"
    assert WORDS[Language.FRENCH].hours(5_400_000) == "1,50"
