"""`POST /api/token`: OAuth2 client credentials, as a form, as JSON, and with HTTP Basic before either."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ilaas.core.errors import Unauthenticated
from ilaas.http.stt_api.answers import json_response
from ilaas.http.stt_api.operations import TEXT, OpenOperation
from ilaas.http.stt_api.reading import content_type, read_body, read_form
from ilaas.services.enrichment.tokens import ApiTokens, UnknownScope

GRANT = "client_credentials"
_MAX_BYTES = 64 * 1024
_MALFORMED = (
    "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than "
    "once, or is otherwise malformed."
)
_NO_GRANT = "The authorization grant type is not supported by the authorization server."


def token_operation(tokens: ApiTokens) -> OpenOperation:
    """The end point."""

    async def token(request: Request) -> Response:
        given = await _fields(request)
        if given is None:
            return _error(400, "invalid_request", _MALFORMED, "Check the body: it is neither a form nor JSON")
        if given.get("grant_type") != GRANT:
            hint = "Check that all required parameters have been provided"
            return _error(400, "unsupported_grant_type", _NO_GRANT, hint)
        basic = _basic(request.headers.get("authorization"))
        client_id, secret = basic or (given.get("client_id"), given.get("client_secret", ""))
        if not client_id:
            return _error(400, "invalid_request", _MALFORMED, "Check the `client_id` parameter")
        try:
            granted = await tokens.grant(client_id, secret or "", (given.get("scope") or "").split())
        except UnknownScope as error:
            return _error(400, "invalid_scope", error.message, f"Check the `{error.scope[:100]}` scope")
        except Unauthenticated as error:
            answer = _error(401, "invalid_client", error.message)
            if "authorization" in request.headers:
                answer.headers["www-authenticate"] = 'Basic realm="OAuth"'
            return answer
        return json_response(
            {"token_type": "Bearer", "expires_in": granted.expires_in_s, "access_token": granted.token},
            headers={"cache-control": "no-store", "pragma": "no-cache"},
        )

    return OpenOperation(
        method="POST",
        path="/token",
        handler=token,
        about="A token for a client's id and secret, good for a day",
        tag="token",
        form={"grant_type": {**TEXT, "enum": [GRANT]}, "client_id": TEXT, "client_secret": TEXT, "scope": TEXT},
        answer="Token",
    )


async def _fields(request: Request) -> Mapping[str, str] | None:
    kind = content_type(request)
    if kind == "multipart/form-data":
        return (await read_form(request, frozenset())).fields
    if kind == "application/x-www-form-urlencoded":
        return (await read_form(request, frozenset())).fields
    body = await read_body(request, _MAX_BYTES)
    if not body.strip():
        return {}
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _basic(header: str | None) -> tuple[str, str] | None:
    scheme, _, credentials = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (ValueError, binascii.Error):
        return None
    client_id, found, secret = text.partition(":")
    return (client_id, secret) if found else None


def _error(status: int, error: str, description: str, hint: str | None = None) -> Response:
    body = {"error": error, "error_description": description}
    if hint is not None:
        body["hint"] = hint
    return json_response({**body, "message": description}, status, {"cache-control": "no-store", "pragma": "no-cache"})
