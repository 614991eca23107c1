"""What the audit trail says of a key, an organisation or a server: everything but its secrets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ilaas.core.people import Person, PersonToken, RoleGrant
from ilaas.core.tenancy import Agreement, Key, Organisation, Project
from ilaas.ports.store import StoredServer


def as_json(value: dict[str, Any]) -> str:
    """JSON with its names in order."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


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
            "limits": key.limits.as_value(),
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
            "kind": str(organisation.kind),
            "agreement": agreement_value(organisation.agreement),
            "limits": organisation.limits.as_value(),
            "model_limits": {model: each.as_value() for model, each in organisation.model_limits.items()},
        }
    )


def agreement_value(agreement: Agreement) -> dict[str, str | None]:
    """An agreement, with ISO dates."""
    return {
        "starts_on": None if agreement.starts_on is None else agreement.starts_on.isoformat(),
        "ends_on": None if agreement.ends_on is None else agreement.ends_on.isoformat(),
        "document_url": agreement.document_url,
    }


def project_json(project: Project) -> str:
    """A project, whole."""
    return as_json(
        {
            "organisation": project.organisation,
            "name": project.name,
            "active": project.active,
            "models": None if project.models is None else sorted(project.models),
            "limits": project.limits.as_value(),
        }
    )


def person_json(person: Person, grants: Iterable[RoleGrant] = ()) -> str:
    """A person without name and addresses, which must be erasable: only whether they are there."""
    return as_json(
        {
            "id": person.id,
            "has_email": person.email is not None,
            "has_subject": person.subject is not None,
            "active": person.active,
            "roles": sorted((grant_value(grant) for grant in grants), key=str),
        }
    )


def grant_value(grant: RoleGrant) -> dict[str, str | None]:
    """A role and where it holds."""
    return {"role": str(grant.role), "organisation": grant.organisation, "project": grant.project}


def token_json(token: PersonToken) -> str:
    """A personal access token without its digest."""
    return as_json(
        {
            "id": token.id,
            "person": token.person_id,
            "hint": token.hint,
            "name": token.name,
            "expires_at_s": token.expires_at_s,
            "revoked_at_s": token.revoked_at_s,
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
            "spot": spec.spot,
        }
    )
