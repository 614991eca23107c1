"""Errors in vLLM's words and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import orjson

_TYPES: Mapping[int, str] = MappingProxyType(
    {
        400: "BadRequestError",
        404: "NotFoundError",
        405: "MethodNotAllowed",
        429: "RateLimitError",
        500: "InternalServerError",
        503: "ServiceUnavailableError",
    }
)


class ApiError(Exception):
    """A request that the server refuses."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param

    def body(self, *, old: bool) -> bytes:
        """The JSON body; `old` for the flat shape."""
        error = {
            "message": self.message,
            "type": _TYPES.get(self.status, "BadRequestError"),
            "param": self.param,
            "code": self.status,
        }
        return orjson.dumps({"object": "error", **error} if old else {"error": error})
