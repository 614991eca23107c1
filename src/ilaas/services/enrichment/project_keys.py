"""The keys with which the service asks models, one for each project: so its work counts for whoever wanted it.

A key's secret is derived from the gateway's own secret, so that every worker has it and nobody stores it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ilaas.core.errors import Conflict, Forbidden, NotFound
from ilaas.core.keys import make_key
from ilaas.ports.speech import Billed
from ilaas.services.administration import Administration, NewKey

NAME = "speech-service"
"""Of the key, in the lists of its project."""


class ProjectKeys:
    """Makes the key of a project when it is wanted for the first time."""

    def __init__(
        self, administration: Administration, derive: Callable[[str], bytes], epoch: Callable[[], float] = time.time
    ) -> None:
        """`derive` makes 32 bytes of a label, always the same and known to nobody else."""
        self._administration = administration
        self._derive = derive
        self._epoch = epoch
        self._known: set[tuple[str, str]] = set()

    async def secret_of(self, billed: Billed) -> str:
        """The project's key. Raises Forbidden when it was revoked, or another key has its name."""
        place = (billed.organisation, billed.project)
        secret = make_key(self._derive(f"speech:{billed.organisation}\0{billed.project}"))
        if place not in self._known:
            await self._ensure(billed, secret)
            self._known.add(place)
        return secret

    async def _ensure(self, billed: Billed, secret: str) -> None:
        wanted = NewKey(organisation=billed.organisation, project=billed.project, name=NAME)
        try:
            await self._administration.create_key(wanted, secret=secret, actor="speech")
        except Conflict:
            try:
                key = await self._administration.find_key(secret)
            except NotFound:
                raise Forbidden(
                    f"A key of the project '{billed.project}' is named '{NAME}' and is not the speech service's: "
                    "revoke it, or rename it."
                ) from None
            if not key.usable_at(self._epoch()):
                raise Forbidden(
                    f"The speech service's key of the project '{billed.project}' was revoked, so it can't work for it."
                ) from None
