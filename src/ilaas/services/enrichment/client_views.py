"""What is shown of an OAuth client of the speech API: everything but its secrets."""

from __future__ import annotations

from typing import Any

from ilaas.core.enrichment.clients import ApiClient, ClientPolicy
from ilaas.core.enrichment.values import ModelChoice
from ilaas.services.governance.views import View, time_text


def client_view(client: ApiClient) -> View:
    """A client; when it was used last changes by itself and is not in its ETag."""
    return {
        "id": client.id,
        "name": client.name,
        "organisation": client.organisation,
        "project": client.project,
        "scopes": sorted(str(scope) for scope in client.scopes),
        "active": client.active,
        "signs_webhooks": client.webhook_secret is not None,
        "policy": policy_value(client.policy),
        "created_at": time_text(client.created_at_s),
    }


def used_view(client: ApiClient) -> View:
    """The same, with when it got a token and a job last."""
    return {
        **client_view(client),
        "last_token_at": time_text(client.last_token_at_s),
        "last_job_at": time_text(client.last_job_at_s),
    }


def policy_value(policy: ClientPolicy) -> dict[str, Any]:
    """The policy as plain values; steps by their names."""
    return {
        "forced": {str(step): _choice(choice) for step, choice in sorted(policy.forced.items())},
        "serves": _choice(policy.serves),
        "treat_unspecified": policy.treat_unspecified,
        "keep_media_s": policy.keep_media_s,
        "keep_results_s": policy.keep_results_s,
        "max_upload_bytes": policy.max_upload_bytes,
        "max_media_duration_s": policy.max_media_duration_s,
        "interactive": policy.interactive,
        "priority": policy.priority,
    }


def _choice(choice: ModelChoice) -> dict[str, str | None]:
    return {"model": choice.model, "infrastructure": choice.infrastructure}
