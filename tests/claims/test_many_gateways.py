"""What is claimed of one process holds with four gateways and a dispatcher of its own, within five per cent."""

from __future__ import annotations

import pytest

from ilaas.core.values import RequestClass
from ilaas.sim.many_gateways import LETTER_S
from ilaas.sim.recording import Recording
from ilaas.sim.report import Report, build_report, jain
from ilaas.sim.run import play
from ilaas.sim.scenario import reference_experiment
from ilaas.sim.workload import Poisson
from tests.claims.test_sharing import EQUAL, backlog, of, people, scene, served_tokens

GATEWAYS = 4
WITHIN = 0.05

Reference = tuple[Recording, Report]


@pytest.fixture(scope="module")
def spread() -> Report:
    """The reference experiment through four gateways."""
    scenario = reference_experiment()
    return build_report(scenario, play(scenario, gateways=GATEWAYS))


def test_as_much_is_served(reference: Reference, spread: Report) -> None:
    one, four = reference[1].whole, spread.whole
    for name, group in one.classes.items():
        if name != RequestClass.OWNER:  # whether an owner's request meets a free own slot first is chance
            assert four.classes[name].tokens_per_s >= (1 - WITHIN) * group.tokens_per_s, name
    assert four.slots.used_share >= (1 - WITHIN) * one.slots.used_share


def test_users_wait_no_longer_beside_batch(spread: Report) -> None:
    """Nineteen of twenty users wait for two letters at most, while batch wants every slot."""
    people_wait = spread.windows["plateau"].classes[RequestClass.INTERACTIVE].queue_s
    assert people_wait.p50 is not None
    assert people_wait.p95 is not None
    assert people_wait.p50 <= 0.01
    assert people_wait.p95 <= 0.25


def test_batch_fills_what_users_leave(reference: Reference, spread: Report) -> None:
    one, four = reference[1].windows["plateau"].slots, spread.windows["plateau"].slots
    assert one.batch_share_of_idle is not None
    assert four.batch_share_of_idle is not None
    assert four.batch_share_of_idle >= (1 - WITHIN) * one.batch_share_of_idle


def test_equal_organisations_get_equal_shares() -> None:
    workloads = [people(name, users, (name,)) for name, users in zip(EQUAL, (20, 40, 80, 160), strict=True)]
    recording = play(scene(*workloads), gateways=GATEWAYS)
    index = jain([served_tokens(recording, 10, 300)[name] for name in EQUAL])
    assert index is not None
    assert index >= 0.95 * (1 - WITHIN)


def test_shares_follow_the_weights() -> None:
    weights = dict(zip(EQUAL, (4.0, 3.0, 2.0, 1.0), strict=True))
    workloads = [people(name, 80, (name,)) for name in EQUAL]
    tokens = served_tokens(play(scene(*workloads, weights=weights), gateways=GATEWAYS), 10, 300)
    total = sum(tokens.values())
    for name, weight in weights.items():
        assert tokens[name] / total == pytest.approx(weight / 10, rel=0.1 + WITHIN), name


def test_an_owner_is_first_when_a_slot_of_its_own_server_is_given_back() -> None:
    """While its request waits, and the dispatcher can know, no slot of its server goes to anyone else."""
    owners = Poisson(name="owners", rate=((0, 0.4),), organisations=("lyon",), models=("m",))
    workloads = (people("users", 60, EQUAL), backlog("batch", 3_000, EQUAL), owners)
    recording = play(scene(*workloads), gateways=GATEWAYS)
    others = [
        lease.granted_s
        for played in recording.played
        if played.planned.organisation != "lyon"
        for lease in played.leases
        if lease.server == "lyon"
    ]
    requests = of(recording, "owners")
    assert len(requests) > 80
    for played in requests:
        for start_s, end_s in played.waits(recording.ended_s):
            assert not [at_s for at_s in others if start_s + 3 * LETTER_S < at_s < end_s], played.planned.id
