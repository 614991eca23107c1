"""One enrichment on its way, with no store."""

from __future__ import annotations

from ilaas.core.enrichment import orders, states
from ilaas.core.enrichment.changes import Change, Notice
from ilaas.core.enrichment.steps import RULES, Status, Step
from ilaas.core.enrichment.values import Enrichment, EnrichmentParameters, NotificationLevel, Notify, Version
from tests.support.enrichment import NOW_S, RESULTS, enrichment

STEP_OF: dict[Status, Step] = {status: step for step, rule in RULES.items() for status in (rule.waiting, rule.running)}
"""The step of each status that is not final."""


class Course:
    """One enrichment, its versions and the notices that were ordered."""

    def __init__(self, asked: EnrichmentParameters, level: NotificationLevel = NotificationLevel.DEFAULT) -> None:
        notify = Notify(url="https://pod.example.org/", level=level)
        self.versions: dict[str, Version] = {}
        self.notices: list[Notice] = []
        self.now: Enrichment = orders.created(enrichment(parameters=asked, notify=notify), NOW_S).enrichment

    def apply(self, change: Change) -> None:
        self.now = change.enrichment
        self.versions.update({each.id: each for each in change.versions})
        self.notices.extend(change.notices)

    @property
    def version(self) -> Version | None:
        return (
            None if self.now.job is None or self.now.job.version_id is None else self.versions[self.now.job.version_id]
        )

    def take(self) -> Step:
        taken = states.taken(self.now, owner="w", worker_name="W", at_s=NOW_S, lease_s=30)
        self.apply(Change(enrichment=taken))
        return STEP_OF[taken.status]

    def finish(self) -> None:
        assert self.now.job is not None
        self.apply(states.finished(self.now, self.version, RESULTS[self.now.job.step], NOW_S))

    def run(self) -> list[Status]:
        passed = [self.now.status]
        while not self.now.status.is_final:
            self.take()
            passed.append(self.now.status)
            self.finish()
            passed.append(self.now.status)
        return passed
