"""Credits: slots that the dispatcher of an uncontended model lets its gateways give away without asking.

An allowance says how many requests a gateway may have on a server by credit at one time; it is a number, not a change
of one, so that a letter that is lost or comes twice does no harm. What was allowed counts as taken until the gateway
has said that it keeps to less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ilaas.core.dispatch.distributed.messages import Entry, Kind

LENT_SHARE = 0.5
"""Of the slots that nobody needs now. The rest is for requests that come without a credit, batch above all."""
QUIET_S = 1.0
"""Without anybody waiting, before lending begins again."""
DEMAND_WEIGHT = 0.3
"""Of the last round in the mean of what a gateway needed."""
REMIND_S = 2.0
"""Without a confirmation, after which an allowance is told again."""
STILL_GOOD = 0.25
"""An allowance is left as it is while the new one would differ by no more than this share."""


@dataclass(slots=True)
class _Account:
    """One gateway."""

    allowed: dict[str, int] = field(default_factory=dict)
    """By server, as last told."""
    pending: dict[int, dict[str, int]] = field(default_factory=dict)
    """What was allowed before each number that the gateway has not confirmed yet."""
    number: int = 0
    told_s: float = 0.0
    used: dict[str, int] = field(default_factory=dict)
    """Requests under way by credit, by server."""
    demand: float = 0.0
    came: int = 0
    """Requests since the last round, by credit or not."""


class Lending:
    """Who may give away what, at one model."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._recalled_s = float("-inf")
        self._lent = False
        """Some gateway is allowed something, or may still think so."""

    # -- what gateways do ----------------------------------------------------------------------------------------------

    def came(self, gateway: str) -> None:
        """A request of this gateway came, by credit or not."""
        self._account(gateway).came += 1

    def began(self, gateway: str, server: str) -> None:
        """A request began by credit."""
        used = self._account(gateway).used
        used[server] = used.get(server, 0) + 1

    def ended(self, gateway: str, server: str) -> None:
        """And ended."""
        account = self._accounts.get(gateway)
        if account is None or server not in account.used:
            return
        account.used[server] -= 1
        if not account.used[server]:
            del account.used[server]

    def held(self, gateway: str, number: int) -> None:
        """The gateway keeps to the allowance of that number: what it was allowed before counts no more."""
        account = self._accounts.get(gateway)
        if account is not None:
            account.pending = {each: before for each, before in account.pending.items() if each > number}

    def forget_allowance(self, gateway: str) -> None:
        """The gateway has dropped its credits (it has just connected)."""
        account = self._accounts.get(gateway)
        if account is not None:
            account.allowed = {}
            account.pending = {}

    def gone(self, gateway: str) -> None:
        """The gateway is dead: nothing of it counts any more."""
        self._accounts.pop(gateway, None)

    # -- what the dispatcher does --------------------------------------------------------------------------------------

    def recall(self, now: float) -> list[tuple[str, Entry]]:
        """Somebody waits: no gateway may give away anything. Letters to write."""
        self._recalled_s = now
        if not self._lent:
            return []
        self._lent = False
        return [
            (gateway, self._allow(account, {}, now)) for gateway, account in self._accounts.items() if account.allowed
        ]

    def share_out(self, spare: Mapping[str, int], gateways: frozenset[str], now: float) -> list[tuple[str, Entry]]:
        """Share what is spare among the live gateways, by what they needed lately. Letters to write.

        `spare` has the free slots by server, with those that are lent and not used.
        """
        if now - self._recalled_s < QUIET_S:
            return []
        for gateway in gateways:
            account = self._account(gateway)
            account.demand += DEMAND_WEIGHT * (account.came - account.demand)
            account.came = 0
        order = sorted(gateways, key=lambda each: (-self._accounts[each].demand, each))
        targets: dict[str, dict[str, int]] = {gateway: {} for gateway in order}
        weights = [1.0 + self._accounts[gateway].demand for gateway in order]
        for number, (server, slots) in enumerate(sorted(spare.items())):
            for gateway, share in zip(order, _shares(int(slots * LENT_SHARE), weights, number), strict=True):
                used = self._accounts[gateway].used.get(server, 0)
                if share:
                    targets[gateway][server] = used + share
        letters = [
            (gateway, self._allow(self._accounts[gateway], target, now))
            for gateway, target in targets.items()
            if not self._still_good(self._accounts[gateway], target)
        ]
        self._lent = any(account.allowed for account in self._accounts.values())
        return letters

    def reminders(self, now: float) -> list[tuple[str, Entry]]:
        """Letters anew to those who have not confirmed what they are allowed: one of the two may be lost."""
        letters: list[tuple[str, Entry]] = []
        for gateway, account in self._accounts.items():
            if account.pending and now - account.told_s >= REMIND_S:
                account.told_s = now
                letters.append((gateway, [Kind.ALLOWED, 0, account.number, account.allowed]))
        return letters

    def unused(self) -> dict[str, int]:
        """Slots by server that gateways may take at any moment."""
        total: dict[str, int] = {}
        for account in self._accounts.values():
            for server in {*account.allowed, *(server for before in account.pending.values() for server in before)}:
                most = max(
                    account.allowed.get(server, 0), *(before.get(server, 0) for before in account.pending.values()), 0
                )
                free = most - account.used.get(server, 0)
                if free > 0:
                    total[server] = total.get(server, 0) + free
        return total

    def _account(self, gateway: str) -> _Account:
        account = self._accounts.get(gateway)
        if account is None:
            account = self._accounts[gateway] = _Account()
        return account

    @staticmethod
    def _allow(account: _Account, target: dict[str, int], now: float) -> Entry:
        account.number += 1
        account.told_s = now
        account.pending[account.number] = account.allowed
        account.allowed = target
        return [Kind.ALLOWED, 0, account.number, target]

    @staticmethod
    def _still_good(account: _Account, target: Mapping[str, int]) -> bool:
        """Small changes are not worth a letter; from or to nothing is."""
        allowed = account.allowed
        if allowed.keys() != target.keys():
            return False
        used = account.used
        return all(
            abs(target[server] - now) <= STILL_GOOD * max(1, now - used.get(server, 0))
            for server, now in allowed.items()
        )


def _shares(slots: int, weights: list[float], first: int) -> list[int]:
    """`slots` in whole parts by weight; what is left over goes round, beginning elsewhere for each server."""
    total = sum(weights)
    parts = [int(slots * weight / total) for weight in weights] if total else []
    for number in range(slots - sum(parts) if parts else 0):
        parts[(first + number) % len(parts)] += 1
    return parts
