"""What a gateway knows of the federation: the catalogue and the directory, held in memory as immutable snapshots.

A change never edits a snapshot: the runtime makes a new one and swaps it in, so that a request sees one state or the
other, never half of each.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ilaas.core.catalogue import Catalogue
from ilaas.core.keys import digest
from ilaas.core.tenancy import Directory, Key


class Registry:
    """The current catalogue and directory, keys found by their secret, and which keys were used since last asked."""

    def __init__(self, pepper: bytes, epoch: Callable[[], float] = time.time) -> None:
        """`pepper` is the one the keys' digests were made with; `epoch` gives epoch seconds."""
        self.catalogue = Catalogue()
        self.directory = Directory()
        self._pepper = pepper
        self._epoch = epoch
        self._used: dict[str, float] = {}

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
