"""Health of one server: consecutive failures, a circuit breaker with growing pauses, and the way back up by probes.

    up --failures_before_down--> down --pause--> probing --successes_before_up--> up
                                   ^----- a failed probe, pause doubled -----'

Failed requests and failed checks are counted apart: a server whose list of models answers while every request fails
must still go down. What was sent before a state began says nothing about that state, so it is not counted in it.
"""

from __future__ import annotations

from enum import StrEnum

from ilaas.core.catalogue import DispatchPolicy

LONGEST_PAUSE_S = 60.0
FORGIVEN_AFTER_S = 60.0
"""A server that stayed up this long starts again with the shortest pause."""


class HealthState(StrEnum):
    """What a server may be given: everything, one request at a time, or nothing."""

    UP = "up"
    PROBING = "probing"
    DOWN = "down"


class Health:
    """The breaker of one server. Every method that tells news returns whether the state changed."""

    __slots__ = (
        "_check_failures",
        "_failures",
        "_policy",
        "_relapses",
        "_successes",
        "_up_since_s",
        "down_until_s",
        "period",
        "probes",
        "state",
    )

    def __init__(self, policy: DispatchPolicy, now: float) -> None:
        self.state = HealthState.UP
        self.probes = 0
        """Requests under way that were sent while probing."""
        self.period = 0
        """Of probing: counts how often it has begun, so that a probe of an earlier one says nothing of this one."""
        self.down_until_s = 0.0
        self._policy = policy
        self._failures = 0
        self._check_failures = 0
        self._successes = 0
        self._relapses = 0
        self._up_since_s = now

    def configure(self, policy: DispatchPolicy) -> None:
        """Take other thresholds; the state stays."""
        self._policy = policy

    def wake(self, now: float) -> bool:
        """Begin to probe when the pause is over."""
        if self.state is not HealthState.DOWN or now < self.down_until_s:
            return False
        self.state = HealthState.PROBING
        self._successes = 0
        self.probes = 0
        self.period += 1
        return True

    def succeeded(self, now: float, *, probe: bool) -> bool:
        """The server answered a request in full, or refused it in its own words."""
        if self.state is HealthState.UP:
            self._failures = self._check_failures = 0
            return False
        return probe and self._probe_succeeded(now)

    def failed(self, now: float, *, probe: bool) -> bool:
        """A request ended by the server's fault."""
        if self.state is HealthState.UP:
            self._failures += 1
            return self._failures >= self._policy.failures_before_down and self._go_down(now)
        return probe and self.state is HealthState.PROBING and self._go_down(now)

    def checked(self, now: float, *, ok: bool) -> bool:
        """One active check. While the breaker's pause lasts, a good one proves nothing, since requests failed.

        It speaks for another try, though: what is left of the pause is halved.
        """
        if self.state is HealthState.DOWN:
            if ok and self.down_until_s > now:
                self.down_until_s = now + (self.down_until_s - now) / 2
            return False
        if ok:
            self._check_failures = 0
            return self._probe_succeeded(now)
        if self.state is HealthState.PROBING:
            return self._go_down(now)
        self._check_failures += 1
        return self._check_failures >= self._policy.failures_before_down and self._go_down(now)

    def back_in_s(self, now: float) -> float:
        """Seconds until the server may be tried again."""
        return max(0.0, self.down_until_s - now) if self.state is HealthState.DOWN else 0.0

    def _probe_succeeded(self, now: float) -> bool:
        if self.state is not HealthState.PROBING:
            return False
        self._successes += 1
        if self._successes < self._policy.successes_before_up:
            return False
        self.state = HealthState.UP
        self._failures = self._check_failures = 0
        self._up_since_s = now
        return True

    def _go_down(self, now: float) -> bool:
        if self.state is HealthState.UP and now - self._up_since_s > FORGIVEN_AFTER_S:
            self._relapses = 0
        # the exponent is bounded so that a server that is down for weeks can't overflow the power
        pause_s = min(LONGEST_PAUSE_S, self._policy.down_s * 2.0 ** min(self._relapses, 30))
        self._relapses += 1
        self.state = HealthState.DOWN
        self.down_until_s = now + pause_s
        self.probes = 0
        return True
