"""What a gateway knows of the federation: the catalogue and the directory, held in memory as immutable snapshots.

A change never edits a snapshot: the runtime makes a new one and swaps it in, so that a request sees one state or the
other, never half of each.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ilaas.core.catalogue import Catalogue
from ilaas.core.keys import digest
from ilaas.core.tenancy import Directory, Key, Project


class Registry:
    """The current catalogue and directory, keys found by their secret, and which keys were used since last asked."""

    def __init__(self, pepper: bytes, epoch: Callable[[], float] = time.time) -> None:
        """`pepper` is the one the keys' digests were made with; `epoch` gives epoch seconds."""
        self.catalogue = Catalogue()
        self.directory = Directory()
        self._pepper = pepper
        self._epoch = epoch
        self._used: dict[str, float] = {}
        self._limited_projects: dict[tuple[str, str], Project] = {}
        self._not_consumers: frozenset[str] = frozenset()
        self.restricted = False
        """Whether any project or organisation restricts its keys: asked on each request before the two below."""

    def find_key(self, presented: bytes) -> Key | None:
        """The key of that secret, dead or alive; None when it is not known.

        Comparing digests in a dict leaks nothing by its time: who has no pepper can't choose what a digest begins with.
        """
        return self.directory.keys.get(digest(presented, self._pepper))

    def set_catalogue(self, catalogue: Catalogue) -> None:
        """Swap in a new catalogue."""
        self.catalogue = catalogue

    def set_directory(self, directory: Directory) -> None:
        """Swap in a new directory."""
        self.directory = directory
        self._limited_projects = {
            place: project
            for place, project in directory.projects.items()
            if not project.active or project.models is not None
        }
        self._not_consumers = frozenset(each.name for each in directory.organisations.values() if not each.consumer)
        self.restricted = bool(self._limited_projects or self._not_consumers)

    def closed_to(self, key: Key) -> str | None:
        """Why no key of that project may be used now; None when nothing is in the way."""
        if key.organisation in self._not_consumers:
            return f"The organisation '{key.organisation}' takes no part as a consumer."
        project = self._limited_projects.get((key.organisation, key.project))
        if project is not None and not project.active:
            return f"The project '{key.project}' is not active. Ask a manager of your organisation."
        return None

    def project_models(self, key: Key) -> frozenset[str] | None:
        """The models that the key's project is limited to; None is no limit."""
        project = self._limited_projects.get((key.organisation, key.project))
        return None if project is None else project.models

    def weights(self) -> dict[str, float]:
        """Each organisation's share when a model is saturated; an organisation that is not there counts as 1."""
        return {name: organisation.weight for name, organisation in self.directory.organisations.items()}

    def key_used(self, key_id: str) -> None:
        """Note that the key was used just now."""
        self._used[key_id] = self._epoch()

    def take_used(self) -> dict[str, float]:
        """Epoch seconds of last use by key id, of the keys used since the last call."""
        used, self._used = self._used, {}
        return used
