"""What an operation of the speech API is: its route, who may use it, and how it is described."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from ilaas.core.enrichment.clients import Scope
from ilaas.http.stt_api.answers import NOT_ALLOWED
from ilaas.services.enrichment.tokens import Visitor

Handler = Callable[[Request, Visitor], Awaitable[Response]]
Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
NULLABLE_TEXT: Schema = {"type": ["string", "null"]}
BOOL: Schema = {"type": "boolean"}
UUID: Schema = {"type": "string", "format": "uuid"}
FILE: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
PAGE: Mapping[str, Schema] = {
    "sort": {"type": "string", "enum": ["createdAt", "updatedAt"], "default": "createdAt"},
    "order": {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
    "size": {"type": "integer", "minimum": 1, "default": 50},
    "page": {"type": "integer", "minimum": 1, "default": 1},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    """Below `/api`."""
    handler: Handler
    about: str
    scope: Scope
    refusal: str = NOT_ALLOWED
    """To a token without the scope."""
    tag: str = "enrichments"
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: type[BaseModel] | None = None
    """JSON."""
    form: Mapping[str, Schema] = field(default_factory=dict)
    """Fields of a multipart form; an operation with a body too takes either."""
    answer: str = "Ok"
    """Name of the schema of a success."""
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOperation:
    """One that needs no token."""

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    about: str
    tag: str = "service"
    body: type[BaseModel] | None = None
    form: Mapping[str, Schema] = field(default_factory=dict)
    answer: str = "Ok"
    status: int = 200
    shown: bool = True
    """Whether it is described."""
