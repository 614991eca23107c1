"""What the organisation, project, person, role and audit commands share: they act as an operator, on the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ilaas.core.quota.limits import LimitName, Limits

if TYPE_CHECKING:
    from ilaas.core.rights import Caller
    from ilaas.services.governance import Governance
    from ilaas.services.governance.pages import Page, PageRequest

T = TypeVar("T")

_EUROS = "budget-eur-per-month"
_NAMES = [_EUROS if name is LimitName.BUDGET_MICRO_EUR_PER_MONTH else str(name).replace("_", "-") for name in LimitName]
LIMITS_HELP = f"NAME=NUMBER, or NAME=none to lift it; repeat it for several. Names: {', '.join(_NAMES)}."

LimitOptions = Annotated[list[str] | None, typer.Option("--limit", metavar="NAME=NUMBER", help=LIMITS_HELP)]


def govern(
    state_dir: Path | None, config: Path | None, job: Callable[[Governance, Caller], Awaitable[T]], *, new: bool = False
) -> T:
    """Do something as the machine's operator. `new` allows a place without state: it is made."""
    from ilaas.app.governing import build_governance
    from ilaas.cli.place import Office, find_place, must_exist, work
    from ilaas.core.catalogue import Catalogue
    from ilaas.core.rights import LOCAL_OPERATOR

    place = find_place(state_dir, config)
    if not new:
        must_exist(place)
    catalogue = Catalogue.of(place.settings.models)

    async def run(office: Office) -> T:
        governance = build_governance(place.settings, office.store, lambda: catalogue)
        return await job(governance, replace(LOCAL_OPERATOR, name=office.actor))

    return work(place, run)


async def all_pages(page: Callable[[PageRequest], Awaitable[Page[T]]], limit: int | None = None) -> list[T]:
    """Every value of a list, or the first so many."""
    from ilaas.services.governance.pages import MAX_PAGE, PageRequest

    found: list[T] = []
    cursor: str | None = None
    while limit is None or len(found) < limit:
        wanted = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(found))
        one = await page(PageRequest(cursor, wanted))
        found.extend(one.items)
        cursor = one.next_cursor
        if cursor is None:
            break
    return found


def with_limits(limits: Limits, given: Iterable[str] | None) -> Limits:
    """The limits with those of the options in their place. Raises BadParameter."""
    for text in given or ():
        name, found, value = text.partition("=")
        if not found or name not in _NAMES:
            raise typer.BadParameter(
                f"'{text}' is not NAME=NUMBER with one of {', '.join(_NAMES)}", param_hint="'--limit'"
            )
        limits = replace(limits, **_limit(name, value))
    return limits


def _limit(name: str, value: str) -> dict[str, int | None]:
    field = str(LimitName.BUDGET_MICRO_EUR_PER_MONTH) if name == _EUROS else name.replace("-", "_")
    if value == "none":
        return {field: None}
    try:
        number = round(float(value) * 1e6) if name == _EUROS else int(value)
    except (ValueError, OverflowError):
        number = -1
    if not 0 <= number <= 10**15:
        raise typer.BadParameter(f"'{value}' is not a number from 0 on, nor 'none'", param_hint=f"'--limit {name}'")
    return {field: number}


def shown_limits(limits: Limits) -> str | None:
    """On one line; None for no limit."""
    parts = []
    for option, name in zip(_NAMES, LimitName, strict=True):
        value: int | None = getattr(limits, name)
        if value is not None:
            parts.append(f"{option}={value / 1e6:g}" if option == _EUROS else f"{option}={value}")
    return " ".join(parts) or None
