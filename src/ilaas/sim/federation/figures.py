"""The figures of a day: what `ilaas simulate federation` says, as values that are written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ilaas.sim.federation.energy import Energy, SiteEnergy
from ilaas.sim.federation.requests import CLASSES
from ilaas.sim.federation.result import Counts, ServerResult, percentiles

CLASS_NAMES = tuple(request_class.value for request_class in CLASSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Percentiles of a duration in seconds, right to 1 %; None when nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, counts: Counts) -> Spread:
        """Of a histogram."""
        p50, p95, p99 = (None if value is None else round(value, 4) for value in percentiles(counts))
        return cls(p50=p50, p95=p95, p99=p99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Requests that have something in common."""

    requests: int
    outcomes: dict[str, int]
    """How they ended; `unfinished` is under way at the end. They add up to `requests`."""
    waiting_s: Spread
    """In the dispatcher, of those that got a server."""
    first_token_s: Spread
    """From sending."""

    @property
    def refused(self) -> int:
        """Ended without a server."""
        return sum(number for name, number in self.outcomes.items() if name.startswith("refused") or "timeout" in name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an institution took of the federation's servers and gave with its own, in tokens of prompts and answers."""

    weight: float
    people: int
    own: int
    """Of its own people on its own servers."""
    taken: int
    """Of its people on others' servers."""
    given: int
    """Of others on its servers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How servers were used."""

    servers: int
    up_hours: float
    slots_used: float
    """Share of slots times time."""
    active: float
    """Share of the time with something to compute."""
    requests: int
    prompt_tokens: int
    """Computed: not those from the prefix cache."""
    output_tokens: int

    @classmethod
    def of(cls, servers: Sequence[ServerResult]) -> Use:
        """Of some servers."""
        up_s = sum(server.up_s for server in servers)
        slot_s = sum(server.up_s * server.slots for server in servers)
        return cls(
            servers=len(servers),
            up_hours=round(up_s / 3600, 2),
            slots_used=round(sum(server.slot_s for server in servers) / slot_s, 4) if slot_s else 0.0,
            active=round(sum(server.active_s for server in servers) / up_s, 4) if up_s else 0.0,
            requests=sum(server.requests for server in servers),
            prompt_tokens=sum(server.prompt_tokens for server in servers),
            output_tokens=sum(server.output_tokens for server in servers),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotUse:
    """Machines that came and went."""

    servers: int
    comings: int
    goings: int
    up_share: float
    token_share: float
    """Of all tokens of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Answers that were cut off after their first token, because the server left or died."""

    interrupted: int
    continued: int
    """On another server, for the client without a seam."""
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The busiest five minutes, or the highest of one sample each five minutes."""

    requests_per_s: float
    requests_per_s_at: float
    """Seconds since midnight."""
    streams: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One value each five minutes, by class where a mapping."""

    at_s: list[float]
    requests_per_s: dict[str, list[float]]
    waiting: dict[str, list[int]]
    running: dict[str, list[int]]
    slots: list[int]
    first_token_p95_s: list[float | None]
    """Of people's requests sent in the five minutes before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayReport:
    """Everything said about one run."""

    scenario: str
    variant: str
    """What was changed; empty for the scenario itself."""
    seed: int
    people: int
    whole: Group
    classes: dict[str, Group]
    institutions: dict[str, Group]
    balances: dict[str, Balance]
    models: dict[str, Group]
    uses: dict[str, Use]
    """Of the whole, and by site."""
    model_uses: dict[str, Use]
    servers: tuple[ServerResult, ...]
    spot: SpotUse
    streams: Streams
    energy: Energy
    site_energy: dict[str, SiteEnergy]
    peak: Peak
    series: Series
