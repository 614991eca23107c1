"""What the speech API answers: the shapes that deployed clients know, byte for byte where they look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import PlainTextResponse, Response

from ilaas.core.errors import Conflict, IlaasError
from ilaas.services.enrichment.refusals import Violations

REJECTED = "The resource server rejected the request."
NOT_ALLOWED = "User not authorized to access this resource"
_GENERIC = "https://tools.ietf.org/html/rfc2616#section-10"
_VALIDATION = "https://symfony.com/errors/validation"


class ProblemError(Exception):
    """A request that does not reach its use case: answered as problem details (RFC 9457)."""

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        violations: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`violations` are paths and messages."""
        super().__init__(detail or "")
        self.status = status
        self.detail = detail or HTTPStatus(status).phrase
        self.violations = tuple(violations)
        self.headers = dict(headers or {})


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON."""
    return Response(orjson.dumps(body), status_code=status, media_type="application/json", headers=dict(headers or {}))


def ok(**more: Any) -> Response:
    """A command was done: 200, whatever it made or removed."""
    return json_response({"status": "OK", **more})


def ko(status: int, errors: Iterable[Mapping[str, str | None]]) -> Response:
    """A request that is refused."""
    return json_response({"status": "KO", "errors": list(errors)}, status)


def refusal(error: IlaasError) -> Response:
    """An error of a use case."""
    if isinstance(error, Violations):
        return ko(400, [{"path": each.path, "message": each.message} for each in error.violations])
    status = 400 if isinstance(error, Conflict) else error.status  # clients know 400, 403 and 404
    answer = ko(status, [{"path": error.param, "message": error.message}])
    if error.retry_after_s is not None:
        answer.headers["retry-after"] = str(max(int(error.retry_after_s), 1))
    return answer


def problem(error: ProblemError) -> Response:
    """Problem details, as the framework of the reference writes them."""
    body: dict[str, Any] = {
        "type": _VALIDATION if error.violations else _GENERIC,
        "title": "Validation Failed" if error.violations else "An error occurred",
        "status": error.status,
        "detail": error.detail,
    }
    if error.violations:
        body["detail"] = "\n".join(f"{path}: {message}" for path, message in error.violations)
        body["violations"] = [{"propertyPath": path, "title": message} for path, message in error.violations]
    answer = Response(orjson.dumps(body), status_code=error.status, media_type="application/problem+json")
    answer.headers.update(error.headers)
    return answer


def rejected() -> Response:
    """No token, or none that is good: plain text, and no JSON."""
    return PlainTextResponse(REJECTED, status_code=401, headers={"www-authenticate": "Bearer"})


def forbidden(message: str = NOT_ALLOWED) -> Response:
    """A token without the scope."""
    return ko(403, [{"path": None, "message": message}])
