"""Organisations, projects, keys, and the Caller that a key stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ilaas.core.quota.limits import Limits
from ilaas.core.values import RequestClass, RoutingMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """A university or partner. Its weight is its share when a model is saturated."""

    name: str
    weight: float = 1.0
    contributor: bool = True
    consumer: bool = True
    limits: Limits = field(default_factory=Limits)
    """What all its projects may use together."""


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
    """All organisations and keys, as one immutable snapshot; keys are found by digest."""

    keys: Mapping[bytes, Key] = field(default_factory=dict)
    organisations: Mapping[str, Organisation] = field(default_factory=dict)
    revision: int = 0
