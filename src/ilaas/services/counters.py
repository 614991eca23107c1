"""Gives the quotas of days and months what the store knows was used, so that a restart forgives nobody anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from ilaas.core.periods import Month, Period, day_of
from ilaas.core.quota import Charging, QuotaBook, Subject, SubjectKind, charging
from ilaas.core.rollups import Dimension, UsageLine, UsageQuery
from ilaas.core.values import Outcome
from ilaas.ports.usage import UsageStore
from ilaas.services.reconcile import limits_of
from ilaas.services.registry import Registry

MAX_NAMED_SUBJECTS = 500
"""With more of a kind than that, all of the kind are read: databases take only so many values in a query."""

_DIMENSIONS = {
    SubjectKind.KEY: (Dimension.KEY,),
    SubjectKind.PROJECT: (Dimension.ORGANISATION, Dimension.PROJECT),
    SubjectKind.ORGANISATION: (Dimension.ORGANISATION,),
    SubjectKind.MODEL: (Dimension.ORGANISATION, Dimension.MODEL),
}


class Counters:
    """Preloads the book's counters from the roll-ups: of everyone at the start, of who is limited anew later."""

    def __init__(
        self,
        store: UsageStore,
        registry: Registry,
        book: QuotaBook,
        clock: Callable[[], float],
        epoch: Callable[[], float],
    ) -> None:
        """`clock` is monotonic seconds, `epoch` epoch seconds."""
        self._store = store
        self._registry = registry
        self._book = book
        self._clock = clock
        self._epoch = epoch
        self._loaded: frozenset[str] = frozenset()

    async def load(self) -> None:
        """Take over what was used by everyone with a limit of a day or a month. Raises StoreUnavailable.

        Doing it again adds what other gateways and late records have brought since, and counts nothing twice.
        """
        await self._load(self._limited())

    async def load_new(self) -> None:
        """The same for those who had no such limit when it was last done: they were not counted."""
        await self._load({id_: subject for id_, subject in self._limited().items() if id_ not in self._loaded})
        self._loaded = frozenset(self._limited())

    def _limited(self) -> dict[str, Subject]:
        return {subject.id: subject for subject, own in limits_of(self._registry.directory).items() if own.has_periods}

    async def _load(self, subjects: dict[str, Subject]) -> None:
        by_kind: defaultdict[SubjectKind, list[Subject]] = defaultdict(list)
        for subject in subjects.values():
            by_kind[subject.kind].append(subject)
        for kind, some in by_kind.items():
            await self._load_kind(kind, some)
        self._loaded |= subjects.keys()

    async def _load_kind(self, kind: SubjectKind, subjects: list[Subject]) -> None:
        epoch_s = self._epoch()
        today = day_of(epoch_s)
        dimensions = _DIMENSIONS[kind]
        named = len(subjects) <= MAX_NAMED_SUBJECTS
        names = [subject.id.split("\0")[1:] for subject in subjects]
        lines = await self._store.usage_lines(
            UsageQuery(
                period=Period.of(Month.at(epoch_s)),
                by=(*dimensions, Dimension.DAY, Dimension.OUTCOME),
                where=dict(zip(dimensions, map(frozenset, zip(*names, strict=True)), strict=True)) if named else {},
            )
        )
        if day_of(self._epoch()) != today:
            return  # what was read is of a day that has ended; the next time is soon
        by_subject: defaultdict[tuple[str | int, ...], list[UsageLine]] = defaultdict(list)
        for line in lines:
            by_subject[line.values[:-2]].append(line)
        for subject, own in zip(subjects, names, strict=True):
            used = by_subject.get(tuple(own), [])
            self._book.preload(
                subject,
                day_tokens=_charged(line for line in used if line.values[-2] == today),
                month_tokens=_charged(used),
                month_micro_eur=sum(line.totals.price_micro_eur for line in used),
                now_s=self._clock(),
                epoch_s=epoch_s,
            )


def _charged(lines: Iterable[UsageLine]) -> int:
    """Tokens by the rule of `core.quota.charging`.

    Sums don't tell whether an answer that failed had begun, when its prompt counts too. It has tokens only if it had
    begun: those count, and the prompt is forgiven.
    """
    tokens = 0
    for line in lines:
        computed = charging(Outcome(str(line.values[-1])), first_token=False) is Charging.COMPUTED
        tokens += line.totals.tokens if computed else line.totals.completion_tokens
    return tokens
