"""Usage, tariffs and closed statements over the administration API: each sees what the own role allows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import pytest

from ilaas.core.billing import Quantities, Rates, Tariff, TariffBook
from ilaas.core.periods import Month
from ilaas.core.statements import LineKind, Statement, StatementLine
from ilaas.core.usage import UsageRecord
from ilaas.core.values import Outcome, RequestClass, RoutingMode
from ilaas.ports.store import AuditLine
from tests.support.admin import AdminWorld, administering

LINE = AuditLine(at_s=1.0, actor="a", action="b", subject="c")
MONTH = Month(2026, 12)
OF_LILLE = StatementLine(
    kind=LineKind.CONSUMED,
    usage_month=MONTH,
    model="mistral",
    counterparty="Lyon",
    used=Quantities(requests=1, prompt_tokens=60),
    micro_eur=10_001,
    cents=1,
)


def record(organisation: str, project: str, tokens: int) -> UsageRecord:
    return UsageRecord(
        id=f"{organisation}/{project}", finished_at_ms=1_799_000_000_000, organisation=organisation, project=project,
        key_id="k", endpoint="chat", model="mistral", server="s", site="lyon", owner="Lyon",
        request_class=RequestClass.INTERACTIVE, routing_mode=RoutingMode.ANY, priority=0, outcome=Outcome.COMPLETED,
        status=200, streamed=False, attempts=1, prompt_tokens=tokens, completion_tokens=0, cached_tokens=0,
        reasoning_tokens=0, audio_ms=0, estimated=False, queue_ms=0, ttft_ms=0, duration_ms=1, price_micro_eur=5,
    )  # fmt: skip


@pytest.fixture
async def world() -> AsyncIterator[AdminWorld]:
    async with administering() as world:
        await world.store.add_usage(
            [record("Lille", "corpus", 60), record("Lille", "other", 7), record("Lyon", "santé", 500)]
        )
        tariff = Tariff(model="mistral", valid_from=date(2026, 1, 1), rates=Rates(per_request=9))
        await world.store.change_tariffs(lambda book: TariffBook((tariff,)), LINE)
        await world.store.close_month(
            MONTH,
            [
                Statement(organisation="Lille", month=MONTH, lines=(OF_LILLE,), closed_at_s=1.0),
                Statement(organisation="Lyon", month=MONTH, closed_at_s=1.0),
            ],
            LINE,
        )
        yield world


@pytest.mark.parametrize(
    ("role", "query", "tokens"),
    [
        ("operator", "", 567),
        ("data", "", 567),
        ("data", "&organisation=Lyon", 500),
        ("manager", "&organisation=Lille", 67),
        ("auditor", "&organisation=Lille", 67),
        ("project", "&organisation=Lille&project=corpus", 60),
        ("manager", "", None),
        ("manager", "&organisation=Lyon", None),
        ("project", "&organisation=Lille", None),
        ("member", "&organisation=Lille", None),
        ("nobody", "&organisation=Lille&project=corpus", None),
    ],
)
async def test_usage_is_told_where_the_role_says(world: AdminWorld, role: str, query: str, tokens: int | None) -> None:
    answer = await world.call(role, "GET", f"/usage?from=2026-12&to=2027-01&by=model&by=project{query}")
    if tokens is None:
        assert answer.status_code == 403
        return
    found = answer.json()
    assert found["total"]["total_tokens"] == tokens
    assert sum(line["total_tokens"] for line in found["data"]) == tokens
    assert {line["model"] for line in found["data"]} == {"mistral"}


@pytest.mark.parametrize("query", ["from=yesterday", "by=colour", "project=corpus", "by=hour&by=key"])
async def test_a_report_that_can_not_be_is_refused_as_the_askers_mistake(world: AdminWorld, query: str) -> None:
    assert (await world.call("operator", "GET", f"/usage?{query}")).status_code in {400, 422}


async def test_tariffs_are_seen_by_who_has_any_role(world: AdminWorld) -> None:
    (found,) = (await world.must("member", "GET", "/tariffs"))["data"]
    assert (found["model"], found["valid_from"], found["rates"]["per_request"]) == ("mistral", "2026-01-01", 9)
    assert (await world.call("nobody", "GET", "/tariffs")).status_code == 403


async def test_an_organisation_sees_its_own_closed_statement_and_no_other(world: AdminWorld) -> None:
    assert (await world.must("manager", "GET", "/statements"))["data"] == ["2026-12"]
    (found,) = (await world.must("manager", "GET", "/statements/2026-12?organisation=Lille"))["data"]
    assert (found["consumed_cents"], found["net_cents"], found["lines"][0]["micro_eur"]) == (1, -1, 10_001)
    assert (await world.call("manager", "GET", "/statements/2026-12?organisation=Lyon")).status_code == 403
    assert (await world.call("manager", "GET", "/statements/2026-12")).status_code == 403
    assert (await world.call("member", "GET", "/statements")).status_code == 403


async def test_the_federations_auditor_sees_all_statements(world: AdminWorld) -> None:
    found = (await world.must("data", "GET", "/statements/2026-12"))["data"]
    assert [each["organisation"] for each in found] == ["Lille", "Lyon"]
    assert (await world.call("data", "GET", "/statements/2026-11")).status_code == 404
    assert (await world.call("data", "GET", "/statements/next")).status_code == 400
