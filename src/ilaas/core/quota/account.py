"""The counters of one subject. Whole numbers only, so that a refund restores them exactly.

What this gateway counted only grows (`begun`, `ended`, `settled_...`), so that others can be told of it again and again
and count nothing twice; what others told stands beside it, and is taken off the room that is left here at once: the
path of a request knows nothing of it.

A bucket's level is kept in parts of a sixty-millionth of a token: at r tokens a minute, exactly r parts flow in each
microsecond. The level at once is `level`, at most r tokens, below zero when more was used than was reserved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ilaas.core.quota.limits import LimitHit, LimitName, Limits, Subject
from ilaas.core.quota.use import NOTHING_ELSEWHERE, NOTHING_USED, Elsewhere, OwnUse

PARTS = 60_000_000
"""Of a token or a request; the microseconds of a minute."""
SLOT_RETRY_S = 1.0
"""When only requests under way stand in the way: their end can't be known here."""


class Account:
    """One subject's limits and what it has used and holds. Only `QuotaBook` touches it."""

    __slots__ = (
        "begun", "budget", "budget_room", "day", "day_base", "day_room", "elsewhere", "ended", "generation",
        "held_micro_eur", "held_tokens", "limits", "long", "month", "month_base", "month_micro_eur_base", "month_room",
        "request_cap", "request_level", "requests_pm", "seen_us", "settled_micro_eur", "settled_tokens", "slot_room",
        "slots", "subject", "token_cap", "token_level", "tokens_pd", "tokens_pm", "tokens_pmonth", "told",
    )  # fmt: skip

    def __init__(
        self, subject: Subject, limits: Limits, now_us: int, day: int, month: int, generation: int = 0
    ) -> None:
        self.subject = subject
        self.generation = generation
        self.seen_us = now_us
        self.day = day
        self.month = month
        self.begun = 0
        self.ended = 0
        self.held_tokens = 0
        self.held_micro_eur = 0
        self.settled_tokens = 0
        self.settled_micro_eur = 0
        # With what was settled here, these make the counts of the day and the month.
        self.day_base = 0
        self.month_base = 0
        self.month_micro_eur_base = 0
        self.elsewhere = NOTHING_ELSEWHERE
        self.told = NOTHING_USED
        self.slot_room = self.day_room = self.month_room = self.budget_room = 0
        self.request_level = self.request_cap = 0
        self.token_level = self.token_cap = 0
        self.limit(limits)

    @property
    def in_flight(self) -> int:
        """Requests under way, at all gateways."""
        return self.begun - self.ended + self.elsewhere.in_flight

    @property
    def day_tokens(self) -> int:
        """Settled this day, at all gateways."""
        return self.settled_tokens + self.day_base

    @property
    def month_tokens(self) -> int:
        """Settled this month, at all gateways."""
        return self.settled_tokens + self.month_base

    @property
    def month_micro_eur(self) -> int:
        """Settled this month, at all gateways."""
        return self.settled_micro_eur + self.month_micro_eur_base

    @property
    def day_left(self) -> int:
        """Of the day's tokens, were there such a limit."""
        return self.day_room - self.settled_tokens - self.held_tokens

    @property
    def month_left(self) -> int:
        """Of the month's tokens, were there such a limit."""
        return self.month_room - self.settled_tokens - self.held_tokens

    def limit(self, limits: Limits) -> None:
        """Set the limits; what was used stays used."""
        self.limits = limits
        self.requests_pm = limits.requests_per_minute
        self.tokens_pm = limits.tokens_per_minute
        self.tokens_pd = limits.tokens_per_day
        self.tokens_pmonth = limits.tokens_per_month
        self.slots = limits.simultaneous_requests
        self.budget = limits.budget_micro_eur_per_month
        self.long = self.tokens_pd is not None or self.tokens_pmonth is not None or self.budget is not None
        # An unlimited bucket rests at 0 of 0, so a limit that is new begins full.
        request_cap = (self.requests_pm or 0) * PARTS
        token_cap = (self.tokens_pm or 0) * PARTS
        self.request_level = self.request_level + request_cap - self.request_cap if self.requests_pm is not None else 0
        self.token_level = self.token_level + token_cap - self.token_cap if self.tokens_pm is not None else 0
        self.request_cap = request_cap
        self.token_cap = token_cap
        self._make_room()

    def _make_room(self) -> None:
        """What limits leave to this gateway's own counters, once others have theirs. 0 where there is no limit."""
        away = self.elsewhere
        self.slot_room = 0 if self.slots is None else self.slots - away.in_flight
        self.day_room = 0 if self.tokens_pd is None else self.tokens_pd - self.day_base - away.held_tokens
        self.month_room = 0 if self.tokens_pmonth is None else self.tokens_pmonth - self.month_base - away.held_tokens
        spent = self.month_micro_eur_base + away.held_micro_eur
        self.budget_room = 0 if self.budget is None else self.budget - spent

    def advance(self, now_us: int, day: int, month: int) -> None:
        """Let time pass: buckets fill, a new day or month begins."""
        elapsed_us = now_us - self.seen_us
        if elapsed_us > 0:
            self.seen_us = now_us
            if self.requests_pm is not None and self.request_level < self.request_cap:
                level = self.request_level + elapsed_us * self.requests_pm
                self.request_level = level if level < self.request_cap else self.request_cap  # noqa: FURB136 - min() costs more
            if self.tokens_pm is not None and self.token_level < self.token_cap:
                level = self.token_level + elapsed_us * self.tokens_pm
                self.token_level = level if level < self.token_cap else self.token_cap  # noqa: FURB136 - min() costs more
        if day != self.day:
            self.day = day
            self.day_base = -self.settled_tokens
            if month != self.month:
                self.month = month
                self.month_base = -self.settled_tokens
                self.month_micro_eur_base = -self.settled_micro_eur
            self._make_room()

    def admits(self, tokens: int, micro_eur: int) -> bool:
        """Whether one more request of this size passes every limit."""
        if self.requests_pm is not None and self.request_level < PARTS:
            return False
        if self.tokens_pm is not None and self.token_level < tokens * PARTS:
            return False
        if self.slots is not None and self.begun - self.ended >= self.slot_room:
            return False
        return not self.long or self._admits_long(tokens, micro_eur)

    def _admits_long(self, tokens: int, micro_eur: int) -> bool:
        wanted = self.settled_tokens + self.held_tokens + tokens
        if self.tokens_pd is not None and wanted > self.day_room:
            return False
        if self.tokens_pmonth is not None and wanted > self.month_room:
            return False
        # What is free passes even when the budget is overdrawn.
        if self.budget is None or micro_eur == 0:
            return True
        return self.settled_micro_eur + self.held_micro_eur + micro_eur <= self.budget_room

    def take(self, tokens: int, micro_eur: int) -> None:
        """Hold the estimate."""
        self.begun += 1
        if self.requests_pm is not None:
            self.request_level -= PARTS
        if self.tokens_pm is not None:
            self.token_level -= tokens * PARTS
        self.held_tokens += tokens
        self.held_micro_eur += micro_eur

    def settle(self, held_tokens: int, held_micro_eur: int, tokens: int, micro_eur: int) -> None:
        """Let the estimate go and count what was really used."""
        self.ended += 1
        self.held_tokens -= held_tokens
        self.held_micro_eur -= held_micro_eur
        self.settled_tokens += tokens
        self.settled_micro_eur += micro_eur
        if self.tokens_pm is not None:
            level = self.token_level + (held_tokens - tokens) * PARTS
            self.token_level = level if level < self.token_cap else self.token_cap  # noqa: FURB136 - min() costs more

    def refund(self, held_tokens: int, held_micro_eur: int) -> None:
        """As if the request had never been."""
        self.settle(held_tokens, held_micro_eur, 0, 0)
        self.begun -= 1
        self.ended -= 1
        if self.requests_pm is not None:
            level = self.request_level + PARTS
            self.request_level = level if level < self.request_cap else self.request_cap  # noqa: FURB136 - min() costs more

    def learn(self, day_tokens: int, month_tokens: int, month_micro_eur: int) -> None:
        """Counts that somebody else is sure of. Ours never go down by it, so the same may be learnt again."""
        self.day_base = max(self.day_base, day_tokens - self.settled_tokens)
        self.month_base = max(self.month_base, month_tokens - self.settled_tokens)
        self.month_micro_eur_base = max(self.month_micro_eur_base, month_micro_eur - self.settled_micro_eur)
        self._make_room()

    def sink(self, request_level: int | None, token_level: int | None) -> None:
        """Levels (in requests and tokens) that another gateway sees: ours are not above them any more."""
        if self.requests_pm is not None and request_level is not None:
            self.request_level = min(self.request_level, request_level * PARTS)
        if self.tokens_pm is not None and token_level is not None:
            self.token_level = min(self.token_level, token_level * PARTS)

    def spend(self, before: OwnUse, after: OwnUse) -> None:
        """What another gateway used just now, between the two, leaves our buckets too."""
        if self.requests_pm is not None:
            requests = after.requests - before.requests
            self.request_level = min(self.request_cap, self.request_level - requests * PARTS)
        if self.tokens_pm is not None:
            self.token_level = min(self.token_cap, self.token_level - (after.tokens - before.tokens) * PARTS)

    def count(self, before: OwnUse, after: OwnUse) -> None:
        """What another gateway settled between the two, counts in the day and the month here too."""
        settled = after.settled_tokens - before.settled_tokens
        self.day_base += settled
        self.month_base += settled
        self.month_micro_eur_base += after.settled_micro_eur - before.settled_micro_eur
        self._make_room()

    def hold_elsewhere(self, elsewhere: Elsewhere) -> None:
        """All that other gateways hold at this time."""
        self.elsewhere = elsewhere
        self._make_room()

    def own_use(self) -> OwnUse:
        """What was used through this gateway since the account was opened."""
        return OwnUse(
            self.begun,
            self.begun - self.ended,
            self.settled_tokens,
            self.held_tokens,
            self.settled_micro_eur,
            self.held_micro_eur,
        )

    def is_idle(self) -> bool:
        """Whether a new account would be just the same, so that this one can be forgotten."""
        return (
            self.in_flight == 0
            and self.begun == self.ended
            and self.request_level >= self.request_cap
            and self.token_level >= self.token_cap
            and (not self.long or (self.day_tokens == 0 and self.month_tokens == 0 and self.month_micro_eur == 0))
        )

    def hits(self, tokens: int, micro_eur: int, to_day_s: float, to_month_s: float) -> Iterator[LimitHit]:
        """Every limit that a request of this size would break; called only when one does."""
        if self.requests_pm is not None:
            wait_s = _bucket_wait_s(PARTS - self.request_level, self.requests_pm)
            yield from self._hit(
                LimitName.REQUESTS_PER_MINUTE, self.requests_pm, self.request_level // PARTS, 1, wait_s
            )
        if self.tokens_pm is not None:
            wait_s = _bucket_wait_s(tokens * PARTS - self.token_level, self.tokens_pm)
            yield from self._hit(LimitName.TOKENS_PER_MINUTE, self.tokens_pm, self.token_level // PARTS, tokens, wait_s)
        if self.slots is not None:
            left = self.slots - self.in_flight
            yield from self._hit(LimitName.SIMULTANEOUS_REQUESTS, self.slots, left, 1, SLOT_RETRY_S)
        if self.tokens_pd is not None:
            wait_s = SLOT_RETRY_S if self.day_tokens + tokens <= self.tokens_pd else to_day_s
            left = self.day_left
            yield from self._hit(LimitName.TOKENS_PER_DAY, self.tokens_pd, left, tokens, wait_s)
        if self.tokens_pmonth is not None:
            wait_s = SLOT_RETRY_S if self.month_tokens + tokens <= self.tokens_pmonth else to_month_s
            left = self.month_left
            yield from self._hit(LimitName.TOKENS_PER_MONTH, self.tokens_pmonth, left, tokens, wait_s)
        if self.budget is not None and micro_eur:
            wait_s = SLOT_RETRY_S if self.month_micro_eur + micro_eur <= self.budget else to_month_s
            left = self.budget_room - self.settled_micro_eur - self.held_micro_eur
            yield from self._hit(LimitName.BUDGET_MICRO_EUR_PER_MONTH, self.budget, left, micro_eur, wait_s)

    def _hit(self, limit: LimitName, value: int, left: int, asked: int, wait_s: float) -> Iterator[LimitHit]:
        if left < asked:
            yield LimitHit(
                limit=limit,
                subject=self.subject,
                value=value,
                remaining=left,
                requested=asked,
                retry_after_s=wait_s if asked <= value else None,
            )


def _bucket_wait_s(missing_parts: int, rate: int) -> float:
    """Until the bucket holds what is missing; one microsecond more, for the rounding of float seconds."""
    if missing_parts <= 0 or rate == 0:
        return 0.0
    return (-(-missing_parts // rate) + 1) / 1_000_000


@dataclass(slots=True, eq=False)
class Reservation:
    """What a request holds until it is settled or refunded; both close it, and a closed one does nothing more."""

    accounts: tuple[Account, ...]
    tokens: int
    micro_eur: int
