"""The words of quotas: who is limited, by what, what a refusal says and what the headers show."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from ilaas.core.errors import QuotaExhausted, RateLimited


class SubjectKind(StrEnum):
    """What a limit may be set on."""

    KEY = "key"
    PROJECT = "project"
    ORGANISATION = "organisation"
    MODEL = "model"
    """One model as used by one organisation."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Someone who is limited. Made once per key and model and kept: `id` is looked up on every request."""

    kind: SubjectKind
    name: str
    """As shown in messages."""
    id: str = field(repr=False)

    @classmethod
    def of_id(cls, id_: str) -> Subject:
        """The one that has this id. Raises ValueError when there is no such kind."""
        match id_.split("\0"):
            case ["key", key_id]:
                return cls.of_key(key_id)
            case ["project", organisation, project]:
                return cls.of_project(organisation, project)
            case ["organisation", organisation]:
                return cls.of_organisation(organisation)
            case ["model", organisation, model]:
                return cls.of_model(organisation, model)
        raise ValueError(f"no kind of subject has the id {id_!r}")

    @classmethod
    def of_key(cls, key_id: str) -> Subject:
        """One API key."""
        return cls(SubjectKind.KEY, key_id, f"key\0{key_id}")

    @classmethod
    def of_project(cls, organisation: str, project: str) -> Subject:
        """One project of an organisation."""
        return cls(SubjectKind.PROJECT, f"{organisation}/{project}", f"project\0{organisation}\0{project}")

    @classmethod
    def of_organisation(cls, organisation: str) -> Subject:
        """One organisation, all its projects together."""
        return cls(SubjectKind.ORGANISATION, organisation, f"organisation\0{organisation}")

    @classmethod
    def of_model(cls, organisation: str, model: str) -> Subject:
        """One model as used by one organisation."""
        return cls(SubjectKind.MODEL, f"{model} for {organisation}", f"model\0{organisation}\0{model}")


def subjects_of(organisation: str, project: str, key_id: str, model: str) -> tuple[Subject, ...]:
    """Everyone whom one request concerns, narrowest first. Keep the result: it is the same for a key and a model."""
    return (
        Subject.of_key(key_id),
        Subject.of_project(organisation, project),
        Subject.of_organisation(organisation),
        Subject.of_model(organisation, model),
    )


class LimitName(StrEnum):
    """The limits there are; the names of the fields of `Limits`."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    TOKENS_PER_DAY = "tokens_per_day"
    TOKENS_PER_MONTH = "tokens_per_month"
    SIMULTANEOUS_REQUESTS = "simultaneous_requests"
    BUDGET_MICRO_EUR_PER_MONTH = "budget_micro_eur_per_month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a subject may use. None is no limit, 0 is nothing at all. Tokens are prompt and answer together."""

    requests_per_minute: int | None = None
    """A bucket that holds a minute's worth and refills continuously."""
    tokens_per_minute: int | None = None
    """A bucket that holds a minute's worth and refills continuously."""
    tokens_per_day: int | None = None
    """Calendar day, UTC."""
    tokens_per_month: int | None = None
    """Calendar month, UTC."""
    simultaneous_requests: int | None = None
    budget_micro_eur_per_month: int | None = None
    """Calendar month, UTC; 1,000,000 is one euro."""

    def __post_init__(self) -> None:
        for name in LimitName:
            value: int | None = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must be 0 or more; leave it out for no limit")

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in LimitName)

    def as_value(self) -> dict[str, int]:
        """For JSON: only the limits that are set."""
        return {str(name): value for name in LimitName if (value := getattr(self, name)) is not None}

    @property
    def has_periods(self) -> bool:
        """Whether any of them counts over a day or a month."""
        return any(getattr(self, name) is not None for name in _LONG)


_WORDS = {
    LimitName.REQUESTS_PER_MINUTE: "requests per minute",
    LimitName.TOKENS_PER_MINUTE: "tokens per minute",
    LimitName.TOKENS_PER_DAY: "tokens per day",
    LimitName.TOKENS_PER_MONTH: "tokens per month",
    LimitName.SIMULTANEOUS_REQUESTS: "simultaneous requests",
    LimitName.BUDGET_MICRO_EUR_PER_MONTH: "euros per month",
}
_LONG = frozenset({LimitName.TOKENS_PER_DAY, LimitName.TOKENS_PER_MONTH, LimitName.BUDGET_MICRO_EUR_PER_MONTH})


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitHit:
    """Why a reservation was refused: the limit that takes longest to give way, of all that were hit."""

    limit: LimitName
    subject: Subject
    value: int
    """The limit itself, in its own unit."""
    remaining: int
    """What is left of it; negative when real counts went above their estimates."""
    requested: int
    retry_after_s: float | None
    """When the same request would pass if nobody else asked; None is never: it asks for more than the whole limit."""

    def error(self) -> RateLimited:
        """What the client is told: 429, the limit, who is limited, and what to do."""
        limit = f"{_amount(self.limit, self.value)} {_WORDS[self.limit]}"
        rest = f"{_amount(self.limit, max(0, self.remaining))} left, {_amount(self.limit, self.requested)} asked for"
        if self.retry_after_s is None:
            remedy = "No waiting helps: make the prompt or max_tokens smaller, or ask for a higher limit."
        elif self.limit is LimitName.SIMULTANEOUS_REQUESTS:
            remedy = "Wait until one of them has ended."
        else:
            remedy = f"Try again in {duration(self.retry_after_s)}."
        kind = QuotaExhausted if self.limit in _LONG or self.retry_after_s is None else RateLimited
        return kind(
            f"Reached the limit of {limit} of {self.subject.kind} {self.subject.name!r}: {rest}. {remedy}",
            param=str(self.limit),
            retry_after_s=self.retry_after_s,
        )


def _amount(limit: LimitName, value: int) -> str:
    if limit is LimitName.BUDGET_MICRO_EUR_PER_MONTH:
        whole, micro = divmod(value, 1_000_000)
        return f"{whole}.{micro:06d}".rstrip("0").rstrip(".")
    return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateHeaders:
    """What is left, for OpenAI's `x-ratelimit-*` headers: of all limits that apply, the one with least left.

    None where no such limit applies. `reset` is when the limit is whole again, if nothing more is asked.
    """

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Header names and values; empty where nothing is limited."""
        found: list[tuple[str, str]] = []
        for unit, limit, remaining, reset_s in (
            ("requests", self.limit_requests, self.remaining_requests, self.reset_requests_s),
            ("tokens", self.limit_tokens, self.remaining_tokens, self.reset_tokens_s),
        ):
            if limit is not None:
                found.append((f"x-ratelimit-limit-{unit}", str(limit)))
                found.append((f"x-ratelimit-remaining-{unit}", str(max(0, remaining or 0))))
                found.append((f"x-ratelimit-reset-{unit}", duration(reset_s or 0.0)))
        return tuple(found)

    def lines(self) -> bytes:
        """The same as ready header lines, each ending in CRLF."""
        return "".join([f"{name}: {value}\r\n" for name, value in self.pairs()]).encode("ascii")


def duration(seconds: float) -> str:
    """Seconds as OpenAI writes them, rounded up to the millisecond: `120ms`, `1s`, `6m0s`, `23h59m59s`."""
    milliseconds = math.ceil(seconds * 1000 - 1e-6)
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    whole, rest = divmod(milliseconds, 1000)
    minutes, second = divmod(whole, 60)
    if minutes == 0:
        return f"{second}.{rest:03d}s" if rest else f"{second}s"
    second += rest > 0
    minutes, second = minutes + second // 60, second % 60
    hours, minute = divmod(minutes, 60)
    return f"{hours}h{minute}m{second}s" if hours else f"{minute}m{second}s"
