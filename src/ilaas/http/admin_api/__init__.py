"""The administration API, `/admin/v1/…`: thin over `services.governance`, which decides. A file per kind of thing.

Callers are people, with a personal access token. Lists come in pages with an opaque cursor; a change names the state it
was made from (If-Match); a creation may carry an Idempotency-Key. Its description is at `/admin/v1/openapi.json`.
"""

from ilaas.http.admin_api.router import build_admin_router

__all__ = ["build_admin_router"]
