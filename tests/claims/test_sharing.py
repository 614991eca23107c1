"""Claims on who gets what: owners, organisations, weights, and nobody starves. In virtual time, on production code."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest

from ilaas.core.catalogue import DispatchPolicy
from ilaas.core.values import Outcome, RequestClass, RoutingMode
from ilaas.sim.recording import Played, Recording, Steps
from ilaas.sim.report import jain
from ilaas.sim.run import play
from ilaas.sim.scenario import Model, Organisation, Scenario, Server
from ilaas.sim.workload import Backlog, Lengths, Poisson, Users

EQUAL = ("angers", "brest", "nantes", "rennes")


def scene(*workloads: object, weights: dict[str, float] | None = None, **changes: object) -> Scenario:
    """Five minutes with two servers, of 16 slots each."""
    servers = tuple(
        Server(id=name, site=name, owner=name, preset="a100", max_parallel=16) for name in ("lyon", "lille")
    )
    given: dict[str, object] = {
        "name": "claim",
        "duration_s": 300.0,
        "models": (Model(name="m", servers=servers, policy=PATIENT),),
        "workloads": workloads,
        "organisations": tuple(Organisation(name=name, weight=w) for name, w in (weights or {}).items()),
    }
    return Scenario.model_validate({**given, **changes})


PATIENT = DispatchPolicy(max_wait_s=3_600.0)
"""Nobody is refused: these claims are about those who wait."""


def people(name: str, users: int, organisations: tuple[str, ...], **changes: object) -> Users:
    """Users who always want something."""
    return Users.model_validate(
        {"name": name, "ramp": ((0, users),), "organisations": organisations, "models": ("m",), **changes}
    )


def backlog(name: str, requests: int, organisations: tuple[str, ...], **changes: object) -> Backlog:
    """A heap of batch requests."""
    given = {"name": name, "requests": requests, "organisations": organisations, "models": ("m",), "class": "batch"}
    return Backlog.model_validate({**given, **changes})


def served_tokens(recording: Recording, from_s: float, to_s: float) -> dict[str, float]:
    """Tokens of the leases granted in the span, by organisation: what each was given while all of them waited."""
    tokens: dict[str, float] = defaultdict(float)
    for played in recording.played:
        if played.leases and from_s <= played.leases[-1].granted_s < to_s:
            tokens[played.planned.organisation] += played.planned.prompt_tokens + played.planned.output_tokens
    return tokens


def of(recording: Recording, workload: str) -> list[Played]:
    return [played for played in recording.played if played.planned.workload == workload]


def test_an_owner_never_waits_while_a_slot_of_its_own_server_is_free() -> None:
    """Whatever others wait for: an owner's request waits only while all slots of its own server are taken."""
    owners = Poisson(name="owners", rate=((0, 0.4),), organisations=("lyon",), models=("m",))
    recording = play(scene(people("users", 60, EQUAL), backlog("batch", 3_000, EQUAL), owners))
    held = [lease for played in recording.played for lease in played.leases if lease.server == "lyon"]
    taken = Steps((lease.granted_s, lease.ended_s or recording.ended_s) for lease in held)
    requests = of(recording, "owners")
    assert len(requests) > 80
    for played in requests:
        for start_s, end_s in played.waits(recording.ended_s):
            inside = [start_s, *(at_s for at_s, _ in taken.changes if start_s < at_s < end_s)]
            assert min(taken.sampled(inside)) >= 16, played.planned.id


def test_an_owner_is_first_when_a_slot_of_its_own_server_is_given_back() -> None:
    """While an owner's request waits, no slot of its server goes to anyone else."""
    owners = people("owners", 6, ("lyon",), routing_mode=RoutingMode.PRIVATE_ONLY)
    recording = play(scene(people("users", 60, EQUAL), backlog("batch", 3_000, EQUAL), owners))
    others = [
        lease.granted_s
        for played in recording.played
        if played.planned.organisation != "lyon"
        for lease in played.leases
        if lease.server == "lyon"
    ]
    requests = of(recording, "owners")
    assert len(requests) > 100
    for played in requests:
        for start_s, end_s in played.waits(recording.ended_s):
            assert not [at_s for at_s in others if start_s < at_s < end_s], played.planned.id


def test_slots_reserved_for_the_owner_are_never_given_to_others() -> None:
    server = Server(id="lyon", site="lyon", owner="lyon", preset="a100", max_parallel=16, owner_reserved=4)
    model = Model(name="m", servers=(server,), policy=PATIENT)
    owners = Poisson(name="owners", rate=((0, 0.3),), organisations=("lyon",), models=("m",))
    recording = play(scene(people("users", 40, EQUAL), backlog("batch", 3_000, EQUAL), owners, models=(model,)))
    others = [p for p in recording.played if p.planned.organisation != "lyon"]
    held = Steps((lease.granted_s, lease.ended_s or recording.ended_s) for played in others for lease in played.leases)
    assert max(held.sampled([at_s for at_s, _ in held.changes])) == 12
    own = Steps(
        (lease.granted_s, lease.ended_s or recording.ended_s)
        for played in of(recording, "owners")
        for lease in played.leases
    )
    for played in of(recording, "owners"):
        for start_s, end_s in played.waits(recording.ended_s):
            assert end_s == start_s or own.sampled([start_s])[0] >= 4, played.planned.id  # it waits for a fifth slot


@pytest.mark.parametrize("request_class", [RequestClass.INTERACTIVE, RequestClass.BATCH])
def test_equal_organisations_get_equal_shares_however_much_they_ask_for(request_class: RequestClass) -> None:
    """One sends eight times as much as another: Jain's index over the tokens served is still at least 0.95."""
    workloads = [
        people(name, users, (name,), **{"class": request_class})
        for name, users in zip(EQUAL, (20, 40, 80, 160), strict=True)
    ]
    recording = play(scene(*workloads))
    index = jain([served_tokens(recording, 10, 300)[name] for name in EQUAL])
    assert index is not None
    assert index >= 0.95


def test_equal_organisations_get_equal_shares_when_one_sends_long_requests() -> None:
    long = {"prompt_tokens": Lengths(median=3_000), "output_tokens": Lengths(median=800)}
    workloads = [people(name, 40, (name,), **(long if name == "brest" else {})) for name in EQUAL]
    recording = play(scene(*workloads))
    index = jain([served_tokens(recording, 10, 300)[name] for name in EQUAL])
    assert index is not None
    assert index >= 0.95


@pytest.mark.parametrize("request_class", [RequestClass.INTERACTIVE, RequestClass.BATCH])
def test_weights_of_one_two_and_four_are_honoured_within_a_tenth(request_class: RequestClass) -> None:
    weights = {"small": 1.0, "middle": 2.0, "large": 4.0}
    workloads = [people(name, 60, (name,), **{"class": request_class}) for name in weights]
    tokens = served_tokens(play(scene(*workloads, weights=weights)), 10, 300)
    for name, weight in weights.items():
        share = tokens[name] / sum(tokens.values())
        assert share == pytest.approx(weight / 7, rel=0.1), name


def longest_wait_s(requests: list[Played], end_s: float) -> float:
    return max(sum(end - start for start, end in played.waits(end_s)) for played in requests)


def test_batch_does_not_starve_when_users_want_every_slot() -> None:
    """After `ageing_s` batch gets its share of the slots beside interactive requests."""
    policy = replace(PATIENT, ageing_s=60.0, ageing_share=0.1)
    servers = (Server(id="lyon", site="lyon", owner="lyon", preset="a100", max_parallel=20),)
    recording = play(
        scene(
            people("users", 80, EQUAL),
            backlog("batch", 400, ("nantes",)),
            models=(Model(name="m", servers=servers, policy=policy),),
        )
    )
    running = Steps(
        (lease.granted_s, lease.ended_s or recording.ended_s)
        for played in of(recording, "batch")
        for lease in played.leases
        if lease.granted_s > 1.0
    )
    samples = running.sampled([float(at_s) for at_s in range(90, 300)])
    assert sum(samples) / len(samples) >= 0.8 * 0.1 * 20
    assert max(samples) <= 4  # and no more than that: users keep the rest


def test_an_organisation_of_small_weight_does_not_starve() -> None:
    weights = {"small": 0.1, "large": 10.0}
    recording = play(scene(people("small", 2, ("small",)), people("large", 150, ("large",)), weights=weights))
    ended = [played for played in of(recording, "small") if played.outcome is Outcome.COMPLETED]
    assert ended
    assert longest_wait_s(of(recording, "small"), recording.ended_s) < 120


def test_low_priority_waits_for_its_own_organisation_only_and_does_not_starve() -> None:
    """Priority orders inside an organisation: 'nantes' can't pass 'rennes' with it, and its own low one still comes."""
    recording = play(
        scene(
            people("urgent", 40, ("nantes",), priority=1),
            people("low", 3, ("nantes",), priority=0),
            people("others", 40, ("rennes",), priority=0),
            duration_s=1_200.0,
        )
    )
    tokens = served_tokens(recording, 10, 1_200)
    assert tokens["nantes"] == pytest.approx(tokens["rennes"], rel=0.1)
    ttft = {
        name: [p.ttft_s for p in of(recording, name) if p.ttft_s is not None and p.sent_s > 10]
        for name in ("urgent", "low")
    }
    assert len(ttft["low"]) >= 3
    assert min(ttft["low"]) > max(ttft["urgent"])
    assert longest_wait_s(of(recording, "low"), recording.ended_s) < 400  # a step of priority is worth five minutes
