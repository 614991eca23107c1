"""All accounts: the one thing the admission of a request talks to."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from ilaas.core.periods import DAY_S, Month, day_of
from ilaas.core.quota.account import PARTS, Account, Reservation
from ilaas.core.quota.limits import LimitHit, Limits, RateHeaders, Subject, SubjectKind

NOTHING_HELD = Reservation((), 0, 0)
"""Shared by all requests that no limit concerns."""


class QuotaBook:
    """Counts what subjects use against their limits, in memory.

    `now_s` is seconds on a monotonic clock (buckets), `epoch_s` seconds since 1970 (days and months, UTC). A
    reservation takes all limits or none. Subjects without limits are not counted, and cost nothing.
    """

    def __init__(
        self, limits: Mapping[Subject, Limits] | None = None, defaults: Mapping[SubjectKind, Limits] | None = None
    ) -> None:
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._limits: dict[str, Limits] = {}
        self._defaults: dict[SubjectKind, Limits] = {}
        self._limited = False
        self._opened = 0
        self.budgeted = False
        """Whether any limit is in money: asked before a price is estimated."""
        self._day = 0
        self._month = 0
        self._day_end_s = 0
        self._month_end_s = 0
        self.set_limits(limits or {}, defaults or {})

    def __len__(self) -> int:
        return len(self._accounts)

    def set_limits(
        self, limits: Mapping[Subject, Limits], defaults: Mapping[SubjectKind, Limits] | None = None
    ) -> None:
        """Replace every limit at once; what was used and is held stays. `defaults` apply where a subject has no own.

        A subject's own limits replace the default of its kind as a whole. Preload the counters of subjects that were
        not limited before: they were not counted.
        """
        self._limits = {subject.id: own for subject, own in limits.items()}
        self._defaults = {kind: own for kind, own in (defaults or {}).items() if own}
        self._limited = bool(self._defaults) or any(self._limits.values())
        everyones = (*self._limits.values(), *self._defaults.values())
        self.budgeted = any(own.budget_micro_eur_per_month is not None for own in everyones)
        for account_id, account in list(self._accounts.items()):
            own = self._limits_of(account.subject)
            account.limit(own)
            if not own and account.in_flight == 0:
                del self._accounts[account_id]

    def limits_of(self, subject: Subject) -> Limits:
        """What applies to the subject; empty limits are no limit."""
        return self._limits_of(subject)

    def reserve(
        self, subjects: Sequence[Subject], tokens: int, micro_eur: int, now_s: float, epoch_s: float
    ) -> Reservation | LimitHit:
        """Hold one request of an estimated size, or say which limit is in the way (then nothing is held)."""
        if not self._limited:
            return NOTHING_HELD
        if epoch_s >= self._day_end_s:
            self._turn(epoch_s)
        now_us = int(now_s * 1_000_000)
        accounts = []
        known = len(self._accounts)
        for subject in subjects:
            account = self._accounts.get(subject.id)
            if account is not None:
                accounts.append(account)
            elif (self._defaults or subject.id in self._limits) and (opened := self._open(subject, now_us)):
                accounts.append(opened)
        if not accounts:
            return NOTHING_HELD
        for account in accounts:
            account.advance(now_us, self._day, self._month)
            if not account.admits(tokens, micro_eur):
                return self._hit(accounts, tokens, micro_eur, now_us, epoch_s)
        for account in accounts:
            account.take(tokens, micro_eur)
        if len(self._accounts) > known:
            self.forget_idle(2 * (len(self._accounts) - known), now_us)
        return Reservation(tuple(accounts), tokens, micro_eur)

    def settle(self, reservation: Reservation, tokens: int, micro_eur: int, now_s: float, epoch_s: float) -> None:
        """Count what was really used and free the rest; above the estimate the bucket goes into debt. Idempotent.

        With `tokens` and `micro_eur` 0 only the request itself stays counted. What is used counts on the day and in the
        month in which it is settled, like the usage record.
        """
        accounts = reservation.accounts
        if not accounts:
            return
        reservation.accounts = ()
        if epoch_s >= self._day_end_s:
            self._turn(epoch_s)
        now_us = int(now_s * 1_000_000)
        for account in accounts:
            account.advance(now_us, self._day, self._month)
            account.settle(reservation.tokens, reservation.micro_eur, tokens, micro_eur)

    def refund(self, reservation: Reservation, now_s: float, epoch_s: float) -> None:
        """Give everything back, the request count too. Idempotent."""
        accounts = reservation.accounts
        reservation.accounts = ()
        if epoch_s >= self._day_end_s:
            self._turn(epoch_s)
        now_us = int(now_s * 1_000_000)
        for account in accounts:
            account.advance(now_us, self._day, self._month)
            account.refund(reservation.tokens, reservation.micro_eur)

    def preload(
        self,
        subject: Subject,
        *,
        day_tokens: int,
        month_tokens: int,
        month_micro_eur: int,
        now_s: float,
        epoch_s: float,
    ) -> None:
        """Take over what the store knows was used this day and month, after a restart or a change of limits.

        A counter never goes down by it, so that to preload twice, or late, counts nothing twice. Subjects without
        limits are passed over.
        """
        account = self.account(subject, now_s, epoch_s)
        if account is not None:
            account.learn(day_tokens, month_tokens, month_micro_eur)

    def status(self, subjects: Sequence[Subject], now_s: float, epoch_s: float) -> RateHeaders:
        """What is left to these subjects: of all limits in requests, and of all in tokens, the one with least left."""
        if not self._limited:
            return _NOTHING_LIMITED
        if epoch_s >= self._day_end_s:
            self._turn(epoch_s)
        now_us = int(now_s * 1_000_000)
        requests: tuple[int, int, float] | None = None
        tokens: tuple[int, int, float] | None = None
        for subject in subjects:
            account = self._accounts.get(subject.id)
            if account is None and (self._defaults or subject.id in self._limits):
                account = self._new(subject, now_us)
            if account is None:
                continue
            account.advance(now_us, self._day, self._month)
            requests = _tighter(requests, _requests_left(account))
            for left in self._tokens_left(account, epoch_s):
                tokens = _tighter(tokens, left)
        return RateHeaders(
            remaining_requests=requests[0] if requests else None,
            limit_requests=requests[1] if requests else None,
            reset_requests_s=requests[2] if requests else None,
            remaining_tokens=tokens[0] if tokens else None,
            limit_tokens=tokens[1] if tokens else None,
            reset_tokens_s=tokens[2] if tokens else None,
        )

    def held(self) -> int:
        """Simultaneous requests of this gateway counted over all accounts: 0 when nothing is under way here."""
        return sum(account.begun - account.ended for account in self._accounts.values())

    # -- for `sharing` -------------------------------------------------------------------------------------------------

    def calendar(self, epoch_s: float) -> tuple[int, int]:
        """Numbers of the day and the month of this instant."""
        if epoch_s >= self._day_end_s:
            self._turn(epoch_s)
        return self._day, self._month

    def touched_since(self, moment_us: int) -> list[Account]:
        """Accounts of which anything may have changed since then, in microseconds of the monotonic clock."""
        return [account for account in self._accounts.values() if account.seen_us >= moment_us]

    def known(self, subject_id: str) -> Account | None:
        """The account, if there is one now."""
        return self._accounts.get(subject_id)

    def account(self, subject: Subject, now_s: float, epoch_s: float) -> Account | None:
        """As it is now, opened if need be; None when nothing limits the subject."""
        self.calendar(epoch_s)
        now_us = int(now_s * 1_000_000)
        account = self._accounts.get(subject.id) or self._open(subject, now_us)
        if account is not None:
            account.advance(now_us, self._day, self._month)
        return account

    def forget_idle(self, checks: int, now_us: int) -> None:
        """Forget old accounts that are idle. Only once those just opened hold something: else it would lose them."""
        for _ in range(min(checks, len(self._accounts))):
            account_id, oldest = self._accounts.popitem(last=False)
            oldest.advance(now_us, self._day, self._month)
            if not oldest.is_idle():
                self._accounts[account_id] = oldest

    # -- inside -------------------------------------------------------------------------------------------------------

    def _limits_of(self, subject: Subject) -> Limits:
        own = self._limits.get(subject.id)
        return own if own is not None else self._defaults.get(subject.kind, _NO_LIMITS)

    def _new(self, subject: Subject, now_us: int) -> Account | None:
        limits = self._limits_of(subject)
        if not limits:
            return None
        self._opened += 1
        return Account(subject, limits, now_us, self._day, self._month, self._opened)

    def _open(self, subject: Subject, now_us: int) -> Account | None:
        account = self._new(subject, now_us)
        if account is not None:
            self._accounts[subject.id] = account
        return account

    def _turn(self, epoch_s: float) -> None:
        """Begin the day of this instant. A wall clock set back does not bring an old day back."""
        self._day = day_of(epoch_s)
        self._day_end_s = (self._day + 1) * DAY_S
        if epoch_s >= self._month_end_s:
            month = Month.at(epoch_s)
            self._month = month.year * 12 + month.month
            self._month_end_s = month.end_s

    def _hit(self, accounts: Sequence[Account], tokens: int, micro_eur: int, now_us: int, epoch_s: float) -> LimitHit:
        """The hit that takes longest to pass, so that nobody is told to come back too early."""
        to_day_s, to_month_s = self._day_end_s - epoch_s, self._month_end_s - epoch_s
        hits: list[LimitHit] = []
        for account in accounts:
            account.advance(now_us, self._day, self._month)
            hits.extend(account.hits(tokens, micro_eur, to_day_s, to_month_s))
        return max(hits, key=lambda hit: math.inf if hit.retry_after_s is None else hit.retry_after_s)

    def _tokens_left(self, account: Account, epoch_s: float) -> list[tuple[int, int, float]]:
        found: list[tuple[int, int, float]] = []
        if (rate := account.tokens_pm) is not None:
            reset_s = (account.token_cap - account.token_level) / (rate * 1_000_000) if rate else 0.0
            found.append((account.token_level // PARTS, rate, reset_s))
        if (limit := account.tokens_pd) is not None:
            found.append((account.day_left, limit, self._day_end_s - epoch_s))
        if (limit := account.tokens_pmonth) is not None:
            found.append((account.month_left, limit, self._month_end_s - epoch_s))
        return found


_NO_LIMITS = Limits()
_NOTHING_LIMITED = RateHeaders()


def _requests_left(account: Account) -> tuple[int, int, float] | None:
    rate = account.requests_pm
    if rate is None:
        return None
    reset_s = (account.request_cap - account.request_level) / (rate * 1_000_000) if rate else 0.0
    return account.request_level // PARTS, rate, reset_s


def _tighter(one: tuple[int, int, float] | None, other: tuple[int, int, float] | None) -> tuple[int, int, float] | None:
    if one is None or other is None:
        return one or other
    return min(one, other)
