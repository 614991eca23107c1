"""What was established of a request before its ticket: who asks for what."""

from __future__ import annotations

from dataclasses import dataclass

from ilaas.core.catalogue import ModelSpec
from ilaas.core.quota import Reservation, Subject
from ilaas.core.requests import ParsedRequest
from ilaas.core.tenancy import Key
from ilaas.ports.upload import ReceivedForm


@dataclass(slots=True)
class Wishes:
    """Made once per request and not changed; not frozen, for speed."""

    key: Key
    model: ModelSpec
    parsed: ParsedRequest
    request_id: bytes
    upstream_headers: bytes
    received_s: float
    """Monotonic."""
    subjects: tuple[Subject, ...]
    """Whose quotas it counts against."""
    reservation: Reservation
    wants_impact: bool = False
    """The client asked to be told its energy and CO2e."""
    form: ReceivedForm | None = None
    """Of a request with a recording."""
