"""What is shown of each thing: plain values for JSON, times in ISO 8601, no secret and no digest."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from ilaas.core.catalogue import ModelSpec, ServerSpec
from ilaas.core.people import Person, PersonToken, RoleGrant
from ilaas.core.tenancy import Key, Organisation, Project
from ilaas.ports.tenancy import NumberedLine
from ilaas.services.audit_values import agreement_value, grant_value

View = dict[str, Any]


def time_text(epoch_s: float | None) -> str | None:
    """ISO 8601 in UTC."""
    if epoch_s is None:
        return None
    return datetime.fromtimestamp(epoch_s, UTC).isoformat().replace("+00:00", "Z")


def organisation_view(organisation: Organisation) -> View:
    """An organisation."""
    return {
        "name": organisation.name,
        "kind": str(organisation.kind),
        "contributor": organisation.contributor,
        "consumer": organisation.consumer,
        "weight": organisation.weight,
        "agreement": agreement_value(organisation.agreement),
        "limits": organisation.limits.as_value(),
        "model_limits": {model: limits.as_value() for model, limits in sorted(organisation.model_limits.items())},
    }


def project_view(project: Project) -> View:
    """A project."""
    return {
        "organisation": project.organisation,
        "name": project.name,
        "active": project.active,
        "models": None if project.models is None else sorted(project.models),
        "limits": project.limits.as_value(),
    }


def key_view(key: Key) -> View:
    """A key, without its secret."""
    return {
        "id": key.id,
        "hint": key.hint,
        "name": key.name,
        "organisation": key.organisation,
        "project": key.project,
        "priority": key.priority,
        "routing_mode": str(key.routing_mode),
        "classes": sorted(key.classes),
        "models": None if key.models is None else sorted(key.models),
        "limits": key.limits.as_value(),
        "created_at": time_text(key.created_at_s),
        "expires_at": time_text(key.expires_at_s),
        "revoked_at": time_text(key.revoked_at_s),
        "replaced_by": key.replaced_by,
        "last_used_at": time_text(key.last_used_at_s),
    }


def person_view(person: Person, grants: Iterable[RoleGrant]) -> View:
    """A person with roles."""
    return {
        "id": person.id,
        "name": person.name,
        "email": person.email,
        "subject": person.subject,
        "active": person.active,
        "created_at": time_text(person.created_at_s),
        "roles": sorted((grant_value(grant) for grant in grants), key=str),
    }


def token_view(token: PersonToken) -> View:
    """A personal access token, without its secret."""
    return {
        "id": token.id,
        "person": token.person_id,
        "hint": token.hint,
        "name": token.name,
        "created_at": time_text(token.created_at_s),
        "expires_at": time_text(token.expires_at_s),
        "revoked_at": time_text(token.revoked_at_s),
        "last_used_at": time_text(token.last_used_at_s),
    }


def server_view(model: str, spec: ServerSpec) -> View:
    """A server, without its token."""
    return {
        "id": spec.id,
        "model": model,
        "url": spec.url,
        "site": spec.site,
        "owner": spec.owner,
        "engine": str(spec.engine),
        "served_name": spec.served_name,
        "max_parallel_requests": spec.max_parallel_requests,
        "owner_reserved": spec.owner_reserved,
        "context_window": spec.context_window,
        "quantisation": spec.quantisation,
        "spot": spec.spot,
        "has_token": spec.token is not None,
        "draining": spec.draining,
        "from_file": spec.from_file,
    }


def model_view(model: ModelSpec) -> View:
    """A model, and at which sites it runs; no address."""
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "category": str(model.category),
        "lifecycle": str(model.lifecycle),
        "retires_on": model.retires_on,
        "context_window": model.context_window,
        "tool_calling": model.tool_calling,
        "vision": model.vision,
        "description": model.description,
        "organisations": None if model.organisations is None else sorted(model.organisations),
        "sites": sorted({server.site for server in model.servers}),
        "servers": len(model.servers),
    }


def audit_view(entry: NumberedLine) -> View:
    """A line of the audit trail."""
    line = entry.line
    return {
        "number": entry.number,
        "at": time_text(line.at_s),
        "who": line.actor,
        "action": line.action,
        "subject": line.subject,
        "organisation": line.organisation,
        "before": None if line.before is None else orjson.loads(line.before),
        "after": None if line.after is None else orjson.loads(line.after),
    }
