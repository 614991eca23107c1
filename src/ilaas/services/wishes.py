"""What was established of a request before its ticket: who asks for what."""

from __future__ import annotations

from dataclasses import dataclass

from ilaas.core.catalogue import ModelSpec
from ilaas.core.quota import Reservation, Subject
from ilaas.core.requests import ParsedRequest
from ilaas.core.tenancy import Key
from ilaas.ports.upload import ReceivedForm


@dataclass(slots=True, init=False)
class Wishes:
    """Made once per request and not changed; not frozen and with its `__init__` written out, for speed."""

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
    wants_impact: bool
    """The client asked to be told its energy and CO2e."""
    form: ReceivedForm | None
    """Of a request with a recording."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        key: Key,
        model: ModelSpec,
        parsed: ParsedRequest,
        request_id: bytes,
        upstream_headers: bytes,
        received_s: float,
        subjects: tuple[Subject, ...],
        reservation: Reservation,
        wants_impact: bool = False,
        form: ReceivedForm | None = None,
    ) -> None:
        self.key = key
        self.model = model
        self.parsed = parsed
        self.request_id = request_id
        self.upstream_headers = upstream_headers
        self.received_s = received_s
        self.subjects = subjects
        self.reservation = reservation
        self.wants_impact = wants_impact
        self.form = form
