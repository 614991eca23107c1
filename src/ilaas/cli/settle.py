"""How the commands of settlement reach their service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ilaas.services.settlement import Settlement

T = TypeVar("T")


def settle(job: Callable[[Settlement, str], Awaitable[T]], state_dir: Path | None, config: Path | None) -> T:
    """Do something with the books of a place; the job is also told who asks."""
    import time

    from ilaas.cli.place import Office, find_place, must_exist, work
    from ilaas.services.settlement import Settlement

    place = find_place(state_dir, config)
    must_exist(place)

    async def run(office: Office) -> T:
        of_file = {each.name: each.weight for each in place.settings.organisations}
        return await job(Settlement(office.store, time.time, of_file), office.actor)

    return work(place, run)
