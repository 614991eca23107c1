"""Quotas of days and months survive a restart of the gateway: they take over what the store has counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ilaas.adapters.store_memory import MemoryStore
from ilaas.core.keys import digest
from ilaas.core.quota import LimitHit, Limits, QuotaBook, subjects_of
from ilaas.core.tenancy import Key, Organisation, Project
from ilaas.core.usage import UsageRecord
from ilaas.core.values import Outcome, RequestClass, RoutingMode
from ilaas.ports.store import AuditLine
from ilaas.services.counters import MAX_NAMED_SUBJECTS, Counters
from ilaas.services.reconcile import Reconcile
from ilaas.services.registry import Registry

PEPPER = b"p" * 32
LINE = AuditLine(at_s=1.0, actor="a", action="b", subject="c")
NOON_S = 1_792_152_000.0  # 2026-10-16T12:00:00Z
YESTERDAY_S = NOON_S - 86_400
LAST_MONTH_S = NOON_S - 30 * 86_400
LILLE = Organisation(name="Lille")
CORPUS = Project(organisation="Lille", name="corpus")
KEY = Key(id="k", digest=digest(b"secret", PEPPER), hint="", name="n", organisation="Lille", project="corpus")


def record(number: int, at_s: float, outcome: Outcome = Outcome.COMPLETED, **fields: object) -> UsageRecord:
    known = UsageRecord(
        id=f"r{number}", finished_at_ms=int(at_s * 1000), organisation="Lille", project="corpus", key_id="k",
        endpoint="chat", model="mistral", server="s", site="lille", owner="Reims",
        request_class=RequestClass.INTERACTIVE,
        routing_mode=RoutingMode.ANY, priority=0, outcome=outcome, status=200, streamed=False, attempts=1,
        prompt_tokens=60, completion_tokens=40, cached_tokens=0, reasoning_tokens=0, audio_ms=0, estimated=False,
        queue_ms=0, ttft_ms=0, duration_ms=1, price_micro_eur=5,
    )  # fmt: skip
    return replace(known, **fields)  # type: ignore[arg-type]


class World:
    """A gateway that has just started over a store that others have filled."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.registry = Registry(PEPPER)
        self.book = QuotaBook()
        self.reconcile = Reconcile(store, self.registry, self.book, lambda catalogue, weights: None)
        self.counters = Counters(store, self.registry, self.book, lambda: 1.0, lambda: NOON_S)

    def left(self, tokens: int, micro_eur: int = 0) -> bool:
        """Whether a request of that size passes."""
        subjects = subjects_of("Lille", "corpus", "k", "mistral")
        held = self.book.reserve(subjects, tokens, micro_eur, 1.0, NOON_S)
        if isinstance(held, LimitHit):
            return False
        self.book.refund(held, 1.0, NOON_S)
        return True


@pytest.fixture
async def world() -> World:
    store = MemoryStore(lambda: 10.0)
    await store.add_organisation(LILLE, LINE)
    await store.add_project(CORPUS, LINE)
    await store.add_key(KEY, LINE)
    await store.add_usage([record(1, NOON_S), record(2, YESTERDAY_S), record(3, LAST_MONTH_S)])
    return World(store)


DAY = Limits(tokens_per_day=1000)  # 100 used
MONTH = Limits(tokens_per_month=1000)  # 200 used


@pytest.mark.parametrize(("limits", "left"), [(DAY, 900), (MONTH, 800)], ids=["day", "month"])
@pytest.mark.parametrize("subject", ["organisation", "model", "project", "key"])
async def test_a_restart_forgets_nothing_of_the_day_and_the_month(
    world: World, subject: str, limits: Limits, left: int
) -> None:
    match subject:
        case "organisation":
            await world.store.change_organisation(LILLE, replace(LILLE, limits=limits), LINE)
        case "model":
            await world.store.change_organisation(LILLE, replace(LILLE, model_limits={"mistral": limits}), LINE)
        case "project":
            await world.store.change_project(CORPUS, replace(CORPUS, limits=limits), LINE)
        case _:
            await world.store.update_key(KEY, replace(KEY, limits=limits), LINE)
    await world.reconcile.refresh()
    await world.counters.load()
    assert world.left(left)
    assert not world.left(left + 1)


async def test_a_restart_forgets_nothing_of_the_budget(world: World) -> None:
    limits = Limits(budget_micro_eur_per_month=100)
    await world.store.change_project(CORPUS, replace(CORPUS, limits=limits), LINE)
    await world.reconcile.refresh()
    await world.counters.load()
    assert world.left(1, 90)
    assert not world.left(1, 91)


async def test_who_is_limited_anew_has_used_what_was_used_before(world: World) -> None:
    await world.reconcile.refresh()
    await world.counters.load()
    await world.store.change_project(CORPUS, replace(CORPUS, limits=DAY), LINE)
    await world.reconcile.refresh()
    await world.counters.load_new()
    assert world.left(900)
    assert not world.left(901)


async def test_records_that_come_late_are_counted_once(world: World) -> None:
    await world.store.change_project(CORPUS, replace(CORPUS, limits=DAY), LINE)
    await world.reconcile.refresh()
    await world.counters.load()
    await world.store.add_usage([record(4, NOON_S - 60)])
    await world.counters.load()
    await world.counters.load()
    assert world.left(800)
    assert not world.left(801)


async def test_what_failed_before_its_answer_began_was_not_charged(world: World) -> None:
    await world.store.add_usage([
        record(4, NOON_S, Outcome.UPSTREAM_ERROR, completion_tokens=0),
        record(5, NOON_S, Outcome.CLIENT_LEFT_PREFILL, completion_tokens=0),
    ])  # fmt: skip
    await world.store.change_project(CORPUS, replace(CORPUS, limits=DAY), LINE)
    await world.reconcile.refresh()
    await world.counters.load()
    assert world.left(840)
    assert not world.left(841)


async def test_so_many_limited_keys_that_no_query_can_name_them_all_are_counted_too(world: World) -> None:
    await world.store.update_key(KEY, replace(KEY, limits=DAY), LINE)
    for number in range(MAX_NAMED_SUBJECTS):
        other = digest(str(number).encode(), PEPPER)
        await world.store.add_key(replace(KEY, id=f"k{number}", name=f"n{number}", digest=other, limits=DAY), LINE)
    await world.reconcile.refresh()
    await world.counters.load()
    assert world.left(900)
    assert not world.left(901)
