"""Quotas: what is reserved, settled and refunded adds up exactly, and a refusal says what to wait for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.periods import DAY_S, Month, day_of
from ilaas.core.quota import (
    Charging,
    LimitHit,
    LimitName,
    Limits,
    QuotaBook,
    Reservation,
    Subject,
    SubjectKind,
    charging,
)
from ilaas.core.quota.limits import duration, subjects_of
from ilaas.core.values import Outcome

KEY = Subject.of_key("k")
EPOCH = 1_800_000_000.0


def book(**limits: int) -> QuotaBook:
    return QuotaBook({KEY: Limits(**limits)})


def reserve(held: QuotaBook, tokens: int = 10, now: float = 0.0, micro_eur: int = 0) -> Reservation | LimitHit:
    return held.reserve((KEY,), tokens, micro_eur, now, EPOCH + now)


def taken(found: Reservation | LimitHit) -> Reservation:
    assert isinstance(found, Reservation), found
    return found


def hit(found: Reservation | LimitHit) -> LimitHit:
    assert isinstance(found, LimitHit)
    return found


def test_without_limits_nothing_is_counted() -> None:
    held = QuotaBook()
    for _ in range(5):
        taken(reserve(held, 10**9))
    assert len(held) == 0


def test_a_minutes_worth_may_come_at_once_and_then_flows_evenly() -> None:
    held = book(requests_per_minute=60)
    for _ in range(60):
        taken(reserve(held))
    assert hit(reserve(held)).retry_after_s == pytest.approx(1.0, abs=1e-3)
    taken(reserve(held, now=1.0))
    hit(reserve(held, now=1.0))
    for _ in range(2):
        taken(reserve(held, now=3.0))


def test_a_refused_request_passes_when_its_retry_after_is_over() -> None:
    held = book(tokens_per_minute=1000)
    taken(reserve(held, 900))
    wait_s = hit(reserve(held, 500)).retry_after_s
    assert wait_s is not None
    hit(reserve(held, 500, now=wait_s - 0.01))
    taken(reserve(held, 500, now=wait_s))


def test_a_request_larger_than_the_whole_limit_is_told_that_no_waiting_helps() -> None:
    found = hit(reserve(book(tokens_per_minute=100), 101))
    assert found.retry_after_s is None
    assert found.error().code == "insufficient_quota"


def test_what_an_estimate_held_too_much_comes_back_at_settlement() -> None:
    held = book(tokens_per_minute=1000)
    reservation = taken(reserve(held, 1000))
    held.settle(reservation, 100, 0, 0.0, EPOCH)
    taken(reserve(held, 900))
    hit(reserve(held, 1))


def test_more_than_the_estimate_leaves_a_debt_that_time_pays() -> None:
    held = book(tokens_per_minute=600)
    held.settle(taken(reserve(held, 600)), 1200, 0, 0.0, EPOCH)
    hit(reserve(held, 10, now=60.0))
    taken(reserve(held, 10, now=62.0))


def test_a_refund_is_as_if_the_request_had_never_been() -> None:
    held = book(requests_per_minute=1, tokens_per_minute=50, tokens_per_day=50, simultaneous_requests=1)
    for _ in range(5):
        held.refund(taken(reserve(held, 50)), 0.0, EPOCH)
    assert held.held() == 0


def test_settling_or_refunding_twice_counts_once() -> None:
    held = book(simultaneous_requests=2, tokens_per_day=100)
    reservation = taken(reserve(held, 40))
    held.settle(reservation, 40, 0, 0.0, EPOCH)
    held.settle(reservation, 40, 0, 0.0, EPOCH)
    held.refund(reservation, 0.0, EPOCH)
    taken(reserve(held, 60))
    assert held.held() == 1


def test_a_slot_is_free_when_its_request_has_ended() -> None:
    held = book(simultaneous_requests=1)
    first = taken(reserve(held))
    assert hit(reserve(held)).limit is LimitName.SIMULTANEOUS_REQUESTS
    held.settle(first, 1, 0, 0.0, EPOCH)
    taken(reserve(held))


def test_a_new_day_and_a_new_month_begin_empty() -> None:
    held = QuotaBook({KEY: Limits(tokens_per_day=100, tokens_per_month=150)})
    start = Month(2026, 10).start_s + 0.0
    first = held.reserve((KEY,), 100, 0, 0.0, start)
    held.settle(taken(first), 100, 0, 0.0, start)
    found = hit(held.reserve((KEY,), 1, 0, 1.0, start + 1))
    assert found.limit is LimitName.TOKENS_PER_DAY
    assert found.retry_after_s == pytest.approx(DAY_S - 1)
    next_day = start + DAY_S
    taken(held.reserve((KEY,), 50, 0, 2.0, next_day))
    assert hit(held.reserve((KEY,), 50, 0, 2.0, next_day)).limit is LimitName.TOKENS_PER_MONTH
    taken(held.reserve((KEY,), 50, 0, 3.0, float(Month(2026, 11).start_s)))  # beside the 50 still under way


def test_a_budget_holds_what_is_reserved_and_free_use_passes_an_empty_one() -> None:
    held = book(budget_micro_eur_per_month=1_000_000)
    taken(reserve(held, micro_eur=700_000))
    found = hit(reserve(held, micro_eur=400_000))
    assert "1 euros per month" in found.error().message
    taken(reserve(held, micro_eur=0))


def test_one_limit_of_many_refuses_and_then_nothing_is_held_anywhere() -> None:
    subjects = subjects_of("uni", "proj", "k", "m")
    held = QuotaBook({subjects[0]: Limits(requests_per_minute=10), subjects[2]: Limits(requests_per_minute=1)})
    taken(held.reserve(subjects, 1, 0, 0.0, EPOCH))
    found = hit(held.reserve(subjects, 1, 0, 0.0, EPOCH))
    assert (found.subject.kind, found.subject.name) == (SubjectKind.ORGANISATION, "uni")
    assert "organisation 'uni'" in found.error().message
    assert held.status((subjects[0],), 0.0, EPOCH).remaining_requests == 9


def test_of_several_hits_the_one_that_takes_longest_is_told() -> None:
    held = book(requests_per_minute=1, tokens_per_day=10)
    held.settle(taken(reserve(held, 10)), 10, 0, 0.0, EPOCH)
    assert hit(reserve(held, 5)).limit is LimitName.TOKENS_PER_DAY


def test_the_headers_show_the_tightest_limit() -> None:
    subjects = subjects_of("uni", "proj", "k", "m")
    held = QuotaBook({subjects[0]: Limits(tokens_per_minute=1000), subjects[1]: Limits(tokens_per_minute=100)})
    taken(held.reserve(subjects, 40, 0, 0.0, EPOCH))
    pairs = dict(held.status(subjects, 0.0, EPOCH).pairs())
    assert pairs["x-ratelimit-limit-tokens"] == "100"
    assert pairs["x-ratelimit-remaining-tokens"] == "60"
    assert pairs["x-ratelimit-reset-tokens"] == "24s"


def test_limits_may_change_under_way_and_what_was_used_stays_used() -> None:
    held = book(tokens_per_minute=100)
    taken(reserve(held, 80))
    held.set_limits({KEY: Limits(tokens_per_minute=200)})
    taken(reserve(held, 120))
    hit(reserve(held, 1))


def test_accounts_that_are_idle_are_forgotten() -> None:
    held = QuotaBook(defaults={SubjectKind.KEY: Limits(requests_per_minute=60)})
    for number in range(1000):
        now = number * 70.0
        subject = Subject.of_key(f"k{number}")
        held.settle(taken(held.reserve((subject,), 1, 0, now, EPOCH)), 1, 0, now, EPOCH)
    assert len(held) < 10


def test_each_outcome_has_a_rule_and_a_failure_before_the_first_token_costs_nothing() -> None:
    for outcome in Outcome:
        charging(outcome, first_token=False)
    assert charging(Outcome.UPSTREAM_ERROR, first_token=False) is Charging.REFUND
    assert charging(Outcome.STREAM_BROKEN, first_token=True) is Charging.COMPUTED
    assert charging(Outcome.CLIENT_LEFT_QUEUE, first_token=False) is Charging.REQUEST_ONLY


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.12, "120ms"), (1, "1s"), (6.5, "6.500s"), (360, "6m0s"), (86_399, "23h59m59s")]
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(
    st.lists(
        st.tuples(
            st.integers(0, 300), st.integers(0, 400), st.sampled_from(["settle", "refund", "keep"]), st.integers(0, 20)
        ),
        max_size=60,
    )
)
def test_whatever_happens_the_counters_equal_what_was_used_and_is_held(
    steps: list[tuple[int, int, str, int]],
) -> None:
    held = book(tokens_per_day=10_000, tokens_per_minute=5_000, requests_per_minute=600, simultaneous_requests=30)
    now, used, kept = 0.0, 0, []
    for estimate, real, end, wait in steps:
        now += wait / 10
        found = reserve(held, estimate, now)
        if isinstance(found, LimitHit):
            assert found.remaining < found.requested
            continue
        if end == "settle":
            held.settle(found, real, 0, now, EPOCH + now)
            used += real
        elif end == "refund":
            held.refund(found, now, EPOCH + now)
        else:
            kept.append(estimate)
    assert held.held() == len(kept)
    day = QuotaBook.status(held, (KEY,), now, EPOCH + now)
    account = held._accounts.get(KEY.id)
    if account is not None:
        assert account.day_tokens == used
        assert account.held_tokens == sum(kept)
    assert day.remaining_requests is not None


@given(st.integers(1970, 9000), st.integers(1, 12))
def test_months_follow_each_other_without_a_gap(year: int, month: int) -> None:
    this = Month(year, month)
    assert Month.parse(str(this)) == this
    assert this.end_s == this.plus(1).start_s
    assert Month.at(this.end_s - 1) == this
    assert day_of(this.start_s) * DAY_S == this.start_s


@pytest.mark.parametrize("text", ["2026-13", "26-10", "2026/10", "2026-10-01", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="month"):
        Month.parse(text)


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="tokens_per_day"):
        replace(Limits(), tokens_per_day=-1)
