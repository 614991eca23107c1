"""What a request wishes of the gateway itself: the body's extras of today's clients, and our headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ilaas.core.errors import InvalidRequest
from ilaas.core.requests import json_type
from ilaas.core.values import RequestClass, RoutingMode

EXTRA_FIELDS = ("routing-mode", "priority")
"""Body fields that are for the gateway and that no server gets (contracts/aristote-dispatcher, A2.5)."""

IDENTITY_FIELDS = ("user", "safety_identifier")
"""Body fields with which clients name the person behind a request: dropped, no server needs them."""

KEPT_BACK = frozenset((*EXTRA_FIELDS, *IDENTITY_FIELDS))
"""What no server gets."""

_ROUTING_MODES: Mapping[str, RoutingMode] = {mode.value: mode for mode in RoutingMode}


def routing_mode(fields: dict[str, Any], header: bytes | None, default: RoutingMode) -> RoutingMode:
    """The mode asked for in the header or the body, else the key's."""
    value = header.decode("latin-1") if header is not None else fields.get("routing-mode")
    if value is None:
        return default
    mode = _ROUTING_MODES.get(value) if isinstance(value, str) else None
    if mode is None:
        shown = value[:50] if isinstance(value, str) else json_type(value)
        raise InvalidRequest(
            f"The routing mode '{shown}' is not known: use 'any', 'private-first' or 'private-only'.",
            param="routing-mode",
        )
    return mode


def priority(fields: dict[str, Any], of_key: int) -> int:
    """The effective priority: a client may only lower its own."""
    value = fields.get("priority")
    if value is None:
        return of_key
    if type(value) is not int:
        raise InvalidRequest(
            f"The field 'priority' must be an integer, not {json_type(value)}; higher goes first.", param="priority"
        )
    return min(value, of_key)


def request_class(header: bytes | None) -> RequestClass:
    """The class asked for by header; interactive when it says nothing."""
    if header is None:
        return RequestClass.INTERACTIVE
    value = header.decode("latin-1").strip().lower()
    if value == "batch":
        return RequestClass.BATCH
    if value == "interactive":
        return RequestClass.INTERACTIVE
    raise InvalidRequest(
        f"The class '{value[:50]}' is not known: X-Ilaas-Class takes 'interactive' or 'batch'.", param="X-Ilaas-Class"
    )
