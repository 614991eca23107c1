"""Small scenarios and hand-made recordings."""

from __future__ import annotations

from typing import Any

from ilaas.core.values import Outcome, RequestClass, RoutingMode
from ilaas.sim.recording import Held, Played
from ilaas.sim.scenario import Model, Scenario, Server
from ilaas.sim.workload import Planned, Users, always


def servers(**slots: int) -> tuple[Server, ...]:
    """A server of so many slots for each name, each of a site and an owner of that name."""
    return tuple(Server(id=name, site=name, owner=name, preset="a100", max_parallel=n) for name, n in slots.items())


def users(name: str = "users", number: int = 4, **changes: Any) -> Users:
    """So many users all the time."""
    given = {"organisations": ("nantes",), "models": ("m",), "prompt_tokens": always(200), "output_tokens": always(100)}
    return Users(name=name, ramp=((0.0, number),), **{**given, **changes})


def scenario(*workloads: Any, **changes: Any) -> Scenario:
    """One minute with two servers of four slots."""
    given = {
        "name": "scene",
        "duration_s": 60.0,
        "models": (Model(name="m", servers=servers(lyon=4, lille=4)),),
        "workloads": workloads or (users(),),
    }
    return Scenario(**{**given, **changes})


def planned(request_id: str, organisation: str = "nantes", request_class: str = "interactive") -> Planned:
    """A request of which only a few things matter."""
    return Planned(
        id=request_id,
        at_s=0.0,
        workload="w",
        user=0,
        organisation=organisation,
        model="m",
        request_class=RequestClass(request_class),
        routing_mode=RoutingMode.ANY,
        priority=0,
        prompt_tokens=10,
        output_tokens=10,
        estimated_tokens=20,
        conversation=0,
        prefix=None,
        stop_after_s=None,
    )


def played(what: Planned, sent_s: float, granted_s: float | None, ended_s: float | None, tokens: int = 0) -> Played:
    """A request that had at most one lease; its first token came half a second after the grant."""
    leases = [] if granted_s is None else [Held("lyon", what.request_class, granted_s, ended_s)]
    return Played(
        what,
        sent_s,
        leases,
        first_token_s=None if granted_s is None else granted_s + 0.5,
        ended_s=ended_s,
        outcome=None if ended_s is None else Outcome.COMPLETED,
        tokens=tokens,
    )
