"""What is answered, for the API's description and as an allow-list of what lists may show."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel

T = TypeVar("T")


class ErrorDetail(BaseModel):
    """What is wrong: for the person who made the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The one shape of every error."""

    error: ErrorDetail


class PageShape(BaseModel, Generic[T]):
    """Some of a list; `next_cursor` is null at its end."""

    data: list[T]
    next_cursor: str | None


class AgreementShape(BaseModel):
    """Dates in ISO 8601."""

    starts_on: str | None
    ends_on: str | None
    document_url: str | None


class OrganisationShape(BaseModel):
    """A university or partner."""

    name: str
    kind: str
    contributor: bool
    consumer: bool
    weight: float
    agreement: AgreementShape
    limits: dict[str, int]
    model_limits: dict[str, dict[str, int]]


class ProjectShape(BaseModel):
    """Owns keys and quotas."""

    organisation: str
    name: str
    active: bool
    models: list[str] | None
    limits: dict[str, int]


class KeyShape(BaseModel):
    """A key, without its secret."""

    id: str
    hint: str
    name: str
    organisation: str
    project: str
    priority: int
    routing_mode: str
    classes: list[str]
    models: list[str] | None
    limits: dict[str, int]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    replaced_by: str | None
    last_used_at: str | None


class NewKeyShape(KeyShape):
    """A key with its secret, which is shown this once."""

    secret: str | None
    note: str | None


class RoleShape(BaseModel):
    """A role and where it holds; no organisation is the whole federation."""

    role: str
    organisation: str | None
    project: str | None


class PersonRoleShape(RoleShape):
    """A role of a person."""

    person: str


class PersonShape(BaseModel):
    """A person with the roles that the caller may see."""

    id: str
    name: str
    email: str | None
    subject: str | None
    active: bool
    created_at: str
    roles: list[RoleShape]


class TokenShape(BaseModel):
    """A personal access token, without its secret."""

    id: str
    person: str
    hint: str
    name: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class NewTokenShape(TokenShape):
    """A token with its secret, which is shown this once."""

    secret: str | None
    note: str | None


class ServerShape(BaseModel):
    """A server, without its token."""

    id: str
    model: str
    url: str
    site: str
    owner: str
    engine: str
    served_name: str
    max_parallel_requests: int | None
    owner_reserved: int
    context_window: int | None
    quantisation: str | None
    spot: bool
    has_token: bool
    draining: bool
    from_file: bool


class ModelShape(BaseModel):
    """A model and where it runs."""

    name: str
    aliases: list[str]
    category: str
    lifecycle: str
    retires_on: str | None
    context_window: int | None
    tool_calling: bool
    vision: bool
    description: str
    organisations: list[str] | None
    sites: list[str]
    servers: int


class AuditShape(BaseModel):
    """One change: who, what, before and after, when."""

    number: int
    at: str
    who: str
    action: str
    subject: str
    organisation: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
