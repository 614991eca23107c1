"""Quotas on the path of a request: reserve at admission, settle at its end, tell what is left."""

from __future__ import annotations

from collections.abc import Callable

from ilaas.core.quota import Charging, LimitHit, QuotaBook, Reservation, Subject, subjects_of
from ilaas.core.tenancy import Key
from ilaas.core.usage import Usage

MAX_KNOWN_SUBJECTS = 50_000


class Quotas:
    """The one hook that every inference request passes."""

    def __init__(self, book: QuotaBook, clock: Callable[[], float], epoch: Callable[[], float]) -> None:
        """`clock` is monotonic seconds, `epoch` epoch seconds."""
        self.book = book
        self._clock = clock
        self._epoch = epoch
        self._subjects: dict[tuple[str, str], tuple[Subject, ...]] = {}

    def subjects(self, key: Key, model: str) -> tuple[Subject, ...]:
        """Whose quotas a request of this key for this model counts against."""
        known = self._subjects.get((key.id, model))
        if known is None:
            if len(self._subjects) >= MAX_KNOWN_SUBJECTS:
                self._subjects.clear()  # keys come and go; the tuples are cheap to make again
            known = subjects_of(key.organisation, key.project, key.id, model)
            self._subjects[key.id, model] = known
        return known

    def reserve(self, subjects: tuple[Subject, ...], tokens: int, micro_eur: int = 0) -> Reservation:
        """Hold the estimate of tokens and money. Raises RateLimited, naming the limit."""
        reserved = self.book.reserve(subjects, tokens, micro_eur, self._clock(), self._epoch())
        if isinstance(reserved, LimitHit):
            error = reserved.error()
            error.headers = self.book.status(subjects, self._clock(), self._epoch()).lines()
            raise error
        return reserved

    def release(self, reservation: Reservation, rule: Charging, usage: Usage, micro_eur: int) -> None:
        """Settle or refund what the request held, by the rule of `core.quota.charging`."""
        if not reservation.accounts:
            return
        if rule is Charging.REFUND:
            self.book.refund(reservation, self._clock(), self._epoch())
            return
        tokens = usage.prompt_tokens + usage.completion_tokens if rule is Charging.COMPUTED else 0
        self.book.settle(reservation, tokens, micro_eur, self._clock(), self._epoch())

    def headers(self, subjects: tuple[Subject, ...], reservation: Reservation) -> bytes:
        """OpenAI's `x-ratelimit-*` lines; empty when nothing limits the caller."""
        if not reservation.accounts:
            return b""
        return self.book.status(subjects, self._clock(), self._epoch()).lines()
