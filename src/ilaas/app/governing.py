"""Builds what governs a federation on its store: for the gateway's administration API and for the command line."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial

from ilaas.adapters.addresses import check_public_url, system_resolve
from ilaas.adapters.secret import load_secret
from ilaas.app.settings import Settings
from ilaas.core.catalogue import Catalogue
from ilaas.ports.store import Store
from ilaas.services.administration import Administration
from ilaas.services.governance import Governance, Office


def build_governance(settings: Settings, store: Store, catalogue: Callable[[], Catalogue]) -> Governance:
    """On an opened store. `catalogue` gives the models and servers in force."""
    pepper = load_secret(settings.state_dir).pepper
    check_url = partial(check_public_url, allow_private=settings.allow_private_addresses, resolve=system_resolve)
    return Governance.of(
        Office(
            store=store,
            administration=Administration(store, pepper, time.time, secrets.token_bytes, check_url),
            pepper=pepper,
            epoch=time.time,
            entropy=secrets.token_bytes,
            catalogue=catalogue,
        )
    )
