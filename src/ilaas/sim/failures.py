"""What a simulated server may do wrong, as a value that is read from text and can be exchanged while it runs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Fault(StrEnum):
    """One way to fail. The value is its name in a specification."""

    REFUSE = "refuse"
    """Accept the connection and close it when a request comes, unless that is for `/sim/…`."""
    CONNECT_REFUSE = "connect_refuse"
    """Stop listening for so many seconds (0: until the failures are exchanged in the process)."""
    UNHEALTHY = "unhealthy"
    """`/health`, `/metrics` and `/v1/models` answer 503; inference works."""
    STATUS_500 = "500"
    STATUS_503 = "503"
    STATUS_429 = "429"
    SLOW_FIRST_TOKEN = "slow_first_token"
    """So many seconds before the engine gets the request."""
    SLOW_TOKENS = "slow_tokens"
    """So many seconds between two tokens."""
    DIE_AFTER = "die_after"
    """After so many tokens, reset the connection."""
    CLOSE_AFTER = "close_after"
    """After so many tokens, close the connection in the middle of the answer."""
    HANG_BEFORE_HEAD = "hang_before_head"
    HANG_IN_PREFILL = "hang_in_prefill"
    """Send the head of a stream and nothing more."""
    HANG_AFTER = "hang_after"
    """After so many tokens, fall silent with the connection open."""
    ERROR_EVENT = "error_event"
    """After so many tokens, an error inside the stream and its end."""
    WRONG_JSON = "wrong_json"
    HTML = "html"
    """Status 200 and a web page, as a mistaken proxy gives."""
    NO_DONE = "no_done"
    """No `[DONE]`, and the usage on the last content chunk (transformers serve)."""
    NO_USAGE = "no_usage"
    """No usage, whatever was asked (llama.cpp)."""
    HUGE_EVENT = "huge_event"
    """The first event has so many bytes more."""
    SPLIT = "split"
    """Write byte by byte."""
    GZIP = "gzip"
    """Compress the answer though nobody asked."""


_WITH_VALUE: Mapping[Fault, str] = MappingProxyType(
    {
        Fault.CONNECT_REFUSE: "seconds",
        Fault.SLOW_FIRST_TOKEN: "seconds",
        Fault.SLOW_TOKENS: "seconds",
        Fault.DIE_AFTER: "tokens",
        Fault.CLOSE_AFTER: "tokens",
        Fault.HANG_AFTER: "tokens",
        Fault.ERROR_EVENT: "tokens",
        Fault.HUGE_EVENT: "bytes",
    }
)
"""Faults that carry a number, with its unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """One fault, how strong and how often."""

    fault: Fault
    value: float = 0.0
    probability: float = 1.0
    next_requests: int | None = None
    """Only for so many requests, then never again."""

    def __str__(self) -> str:
        often = f"x{self.next_requests}" if self.next_requests is not None else f"{self.probability:g}"
        return f"{self.fault}={self.value:g}:{often}" if self.fault in _WITH_VALUE else f"{self.fault}={often}"


@dataclass(frozen=True, slots=True)
class SimFailures:
    """A set of rules; each is drawn for each request on its own."""

    rules: tuple[FaultRule, ...] = ()

    @classmethod
    def parse(cls, text: str) -> SimFailures:
        """Read `500=0.05,503=x2,die_after=20:0.1,slow_first_token=3`.

        A fault without a number is `NAME`, `NAME=PROBABILITY` or `NAME=xCOUNT` (the next COUNT requests); one with a
        number is `NAME=NUMBER`, followed by `:PROBABILITY` or `:xCOUNT` if it is not for all. Raises ValueError.
        """
        return cls(tuple(_parse_rule(part.strip()) for part in text.split(",") if part.strip()))

    def __str__(self) -> str:
        return ",".join(str(rule) for rule in self.rules)


def _parse_rule(text: str) -> FaultRule:
    name, _, argument = (part.strip() for part in text.partition("="))
    try:
        fault = Fault(name)
    except ValueError:
        raise ValueError(f"unknown failure {name!r}; known are {', '.join(Fault)}") from None
    unit = _WITH_VALUE.get(fault)
    if unit is None:
        return _rule(fault, 0.0, argument)
    value, _, often = argument.partition(":")
    if not value:
        raise ValueError(f"failure {name} needs a number of {unit}: write {name}=NUMBER")
    return _rule(fault, _number(value, f"{unit} of failure {name}"), often)


def _rule(fault: Fault, value: float, often: str) -> FaultRule:
    if often.startswith("x"):
        count = often[1:]
        if not count.isdecimal():
            raise ValueError(f"failure {fault}: {often!r} is not a count; write x3 for the next 3 requests")
        return FaultRule(fault=fault, value=value, next_requests=int(count))
    probability = _number(often, f"probability of failure {fault}") if often else 1.0
    if probability > 1:
        raise ValueError(f"probability of failure {fault} must be between 0 and 1, not {probability:g}")
    return FaultRule(fault=fault, value=value, probability=probability)


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{what}: {text!r} is not a number") from None
    if not 0 <= value < 1e9:
        raise ValueError(f"{what} must be 0 or more, not {text}")
    return value


Faults = Mapping[Fault, float]
"""The faults that strike one request, each with its number."""

NO_FAULTS: Faults = MappingProxyType({})
_AT_CONNECTION = frozenset({Fault.REFUSE})
_WHOLE_SERVER = frozenset({Fault.CONNECT_REFUSE, Fault.UNHEALTHY})


class FailureDraw:
    """Draws from a specification, and remembers how many requests each count has left."""

    __slots__ = ("_left", "_random", "failures")

    def __init__(self, failures: SimFailures, seed: int) -> None:
        self.failures = failures
        self._random = random.Random(seed)  # noqa: S311 -- a simulation that can be repeated, no secret
        self._left = [rule.next_requests for rule in failures.rules]

    def for_request(self) -> Faults:
        """The faults that strike the next request."""
        if not self.failures.rules:
            return NO_FAULTS
        return {
            rule.fault: rule.value
            for index, rule in enumerate(self.failures.rules)
            if rule.fault not in _AT_CONNECTION | _WHOLE_SERVER and self._strikes(index)
        }

    def refuses(self) -> bool:
        """Whether the connection of the next request is closed without an answer."""
        rules = enumerate(self.failures.rules)
        return any(rule.fault in _AT_CONNECTION and self._strikes(index) for index, rule in rules)

    def unhealthy(self) -> bool:
        """Whether the next check of health is answered by 503."""
        rules = enumerate(self.failures.rules)
        return any(rule.fault is Fault.UNHEALTHY and self._strikes(index) for index, rule in rules)

    def deaf_s(self) -> float | None:
        """How long the server shall not listen; None when it shall."""
        rules = self.failures.rules
        return next((rule.value for rule in rules if rule.fault is Fault.CONNECT_REFUSE), None)

    def _strikes(self, index: int) -> bool:
        left = self._left[index]
        if left is None:
            return self._random.random() < self.failures.rules[index].probability
        if not left:
            return False
        self._left[index] = left - 1
        return True
