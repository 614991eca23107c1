"""What the audit trail says of a key, an organisation or a server: everything but its secrets."""

from __future__ import annotations

from typing import Any

import orjson

from ilaas.core.quota.limits import LimitName, Limits
from ilaas.core.tenancy import Key, Organisation
from ilaas.ports.store import StoredServer


def as_json(value: dict[str, Any]) -> str:
    """JSON with its names in order."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _limits(limits: Limits) -> dict[str, int]:
    return {str(name): value for name in LimitName if (value := getattr(limits, name)) is not None}


def key_json(key: Key) -> str:
    """A key without its digest."""
    return as_json(
        {
            "id": key.id,
            "hint": key.hint,
            "name": key.name,
            "organisation": key.organisation,
            "project": key.project,
            "priority": key.priority,
            "routing_mode": str(key.routing_mode),
            "classes": sorted(key.classes),
            "models": None if key.models is None else sorted(key.models),
            "expires_at_s": key.expires_at_s,
            "revoked_at_s": key.revoked_at_s,
            "replaced_by": key.replaced_by,
            "limits": _limits(key.limits),
            "chat_client": key.chat_client,
            "threshold": key.threshold,
        }
    )


def organisation_json(organisation: Organisation) -> str:
    """An organisation, whole."""
    return as_json(
        {
            "name": organisation.name,
            "weight": organisation.weight,
            "contributor": organisation.contributor,
            "consumer": organisation.consumer,
            "limits": _limits(organisation.limits),
        }
    )


def server_json(server: StoredServer) -> str:
    """A server without its token: only whether it has one."""
    spec = server.spec
    return as_json(
        {
            "id": spec.id,
            "model": server.model,
            "url": spec.url,
            "site": spec.site,
            "owner": spec.owner,
            "engine": str(spec.engine),
            "served_name": spec.served_name,
            "has_token": spec.token is not None,
            "max_parallel_requests": spec.max_parallel_requests,
            "owner_reserved": spec.owner_reserved,
            "context_window": spec.context_window,
            "quantisation": spec.quantisation,
        }
    )
