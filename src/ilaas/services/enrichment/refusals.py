"""What is refused of a request to the speech API, in the words that its clients know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ilaas.core.errors import Forbidden, InvalidRequest, NotFound


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a value, and the property that it is the value of."""

    path: str | None
    message: str


class Violations(InvalidRequest):
    """Values that break a rule, each told to the client."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(each.message for each in violations), param=violations[0].path)
        self.violations = tuple(violations)


def refused(path: str | None, message: str) -> Violations:
    """One violation."""
    return Violations([Violation(path, message)])


def unknown_enrichment(enrichment_id: str) -> NotFound:
    """There never was one."""
    return NotFound(f"No enrichment with ID '{enrichment_id}' has been found", param="id")


def deleted_enrichment(enrichment_id: str) -> NotFound:
    """There was one."""
    return NotFound(f"The enrichment that you want to get '{enrichment_id}' has been deleted", param="id")


def other_owner(enrichment_id: str) -> Forbidden:
    """It is another client's."""
    return Forbidden(f"You are not allowed to access enrichment {enrichment_id}")


def unknown_version(enrichment_id: str, version_id: str) -> Forbidden:
    """There is none, or it is another enrichment's: 403 and not 404, as clients know it."""
    return Forbidden(
        f"The enrichment version {version_id} has not been found or the enrichment id {enrichment_id} in the url "
        "is incorrect"
    )
