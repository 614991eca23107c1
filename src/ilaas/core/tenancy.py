"""Organisations, projects, keys, and the Caller that a key stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from ilaas.core.quota.limits import Limits
from ilaas.core.values import RequestClass, RoutingMode


class OrganisationKind(StrEnum):
    """Members govern the federation; partners take part by agreement."""

    MEMBER = "member"
    PARTNER = "partner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What was signed with an organisation. It is shown, and not enforced: a lapsed agreement cuts nobody off."""

    starts_on: date | None = None
    ends_on: date | None = None
    """The last day it holds."""
    document_url: str | None = None

    def __post_init__(self) -> None:
        if self.starts_on is not None and self.ends_on is not None and self.ends_on < self.starts_on:
            raise ValueError("the agreement ends before it starts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """A university or partner. Its weight is its share when a model is saturated."""

    name: str
    kind: OrganisationKind = OrganisationKind.MEMBER
    agreement: Agreement = Agreement()
    weight: float = 1.0
    contributor: bool = True
    consumer: bool = True
    limits: Limits = field(default_factory=Limits)
    """What all its projects may use together."""
    model_limits: Mapping[str, Limits] = field(default_factory=dict, hash=False)
    """What all its projects may use of one model together, by the model's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Owns keys and quotas, inside one organisation."""

    organisation: str
    name: str
    active: bool = True
    """Keys of a project that is not active are refused."""
    models: frozenset[str] | None = None
    """Models its keys may use; None is all that the organisation may."""
    limits: Limits = field(default_factory=Limits)
    """What all its keys may use together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One API key, without its secret. Times are epoch seconds."""

    id: str
    digest: bytes = field(repr=False)
    hint: str
    name: str
    organisation: str
    project: str
    priority: int = 0
    """Orders requests inside the organisation; higher goes first."""
    routing_mode: RoutingMode = RoutingMode.ANY
    classes: frozenset[RequestClass] = frozenset({RequestClass.INTERACTIVE, RequestClass.BATCH})
    models: frozenset[str] | None = None
    """Models the key may use; None is all that the organisation may."""
    created_at_s: float = 0.0
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
    replaced_by: str | None = None
    """Id of the key that took over its name when it was rotated; it may live on for an overlap."""
    last_used_at_s: float | None = None
    limits: Limits = field(default_factory=Limits)
    """What this key alone may use."""
    chat_client: bool = False
    """Imported `client_type = chat` of today's dispatcher."""
    threshold: int | None = None
    """Imported: refuse when more than this many requests wait for the model."""

    def usable_at(self, epoch_s: float) -> bool:
        """Neither expired nor revoked."""
        return (self.expires_at_s is None or epoch_s < self.expires_at_s) and (
            self.revoked_at_s is None or epoch_s < self.revoked_at_s
        )


@dataclass(frozen=True, slots=True)
class Directory:
    """All organisations, projects and keys, as one immutable snapshot; keys are found by digest."""

    keys: Mapping[bytes, Key] = field(default_factory=dict)
    organisations: Mapping[str, Organisation] = field(default_factory=dict)
    revision: int = 0
    projects: Mapping[tuple[str, str], Project] = field(default_factory=dict)
    """By organisation and name. A key's project need not be here: it then restricts nothing."""
