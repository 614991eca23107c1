"""Many gateways and dispatchers in virtual time: who decides, what credits do, and that nothing is lost or twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilaas.core.catalogue import DispatchPolicy, ModelSpec, ServerSpec
from ilaas.core.dispatch.distributed.desk import Role
from ilaas.core.values import RequestClass, Strategy
from tests.support.virtual import Federation


def server(name: str, slots: int, owner: str = "x") -> ServerSpec:
    return ServerSpec(id=name, url="http://s", site="x", owner=owner, served_name="m", max_parallel_requests=slots)


def model(*servers: ServerSpec, name: str = "m") -> ModelSpec:
    policy = DispatchPolicy(strategy=Strategy.ROUND_ROBIN_PRIORITY, max_wait_s=1e9, failures_before_down=10_000)
    return ModelSpec(name=name, servers=servers, policy=policy)


def test_a_request_is_granted_and_its_slot_comes_back() -> None:
    federation = Federation(model(server("s1", 2)))
    story = federation.request()
    federation.world.run(3)
    assert story.ended == ["completed"]
    federation.at_rest()


def test_one_dispatcher_owns_a_model_and_the_other_stands_by() -> None:
    federation = Federation(model(server("s1", 2)), model(server("s2", 2), name="n"), dispatchers=3)
    for name in ("m", "n"):
        federation.owner(name)


def test_an_uncontended_model_costs_no_way_to_the_dispatcher() -> None:
    federation = Federation(model(server("s1", 40)))
    federation.world.run(2)
    for gateway in (0, 1):
        story = federation.request(gateway)
        assert story.waited_s == 0.0, "granted within the call"
    federation.world.run(5)
    federation.at_rest()


def test_the_credits_that_gateways_show_are_those_that_the_dispatcher_shows() -> None:
    federation = Federation(model(server("s1", 40)))
    federation.world.run(2)
    shown = [gateway.core.credits()["m"] for gateway in federation.gateways]
    assert sum(shown) == federation.owner().core.lent()["m"] == 20
    federation.request(0, service_s=5.0)
    assert federation.gateways[0].core.credits()["m"] == shown[0] - 1
    federation.world.run(10)
    federation.at_rest()


def test_messages_without_sense_are_counted_where_they_come() -> None:
    federation = Federation(model(server("s1", 2)))
    gateway, owner = federation.gateways[0].core, federation.owner().core
    for part in (gateway, owner):
        before = part.strange()
        part.letter(b"[]", federation.world.now)
        part.news_came(b"{", federation.world.now)
        assert part.strange() == before + 2


def test_batch_asks_the_dispatcher_always() -> None:
    federation = Federation(model(server("s1", 40)))
    federation.world.run(2)
    story = federation.request(request_class=RequestClass.BATCH)
    assert not story.granted_s
    federation.world.run(5)
    assert story.waited_s > 0
    federation.at_rest()


def test_no_server_ever_has_more_than_its_maximum() -> None:
    federation = Federation(model(server("s1", 5), server("s2", 3)), gateways=4)
    for number in range(200):
        federation.world.run(0.02)
        federation.request(number % 4, service_s=0.3 + 0.01 * (number % 7))
    federation.world.run(60)
    assert federation.servers.most["s1"] <= 5
    assert federation.servers.most["s2"] <= 3
    assert {story.ended[0] for story in federation.stories()} == {"completed"}
    federation.at_rest()


def test_a_waiting_ticket_takes_credits_back_from_gateways_that_do_not_need_them() -> None:
    federation = Federation(model(server("s1", 8)), gateways=4)
    federation.world.run(2)
    stories = [federation.request(0, service_s=5.0) for _ in range(8)]
    federation.world.run(1)
    assert federation.servers.running["s1"] == 8, "the slots lent to the others came back"
    federation.world.run(30)
    assert all(story.ended == ["completed"] for story in stories)
    federation.at_rest()


def test_an_owner_waits_for_the_next_slot_only_though_gateways_hold_credits() -> None:
    federation = Federation(model(server("s1", 6, owner="home")), gateways=3)
    federation.world.run(2)
    for number in range(60):
        federation.request(number % 3, service_s=1.0)
    federation.world.run(0.5)
    mine = federation.request(0, organisation="home", service_s=1.0)
    federation.world.run(40)
    assert mine.waited_s < 1.1
    federation.at_rest()


@pytest.mark.parametrize("graceful", [False, True])
def test_tickets_of_a_dispatcher_that_ends_are_granted_by_the_next(graceful: bool) -> None:
    federation = Federation(model(server("s1", 2)), gateways=2)
    stories = [federation.request(number % 2, service_s=2.0) for number in range(20)]
    federation.world.run(1)
    owner = federation.owner()
    if graceful:
        owner.core.release()
        owner.flush()
    else:
        owner.kill()
    federation.world.run(1)
    assert federation.owner() is not owner or graceful
    federation.world.run(60)
    assert all(story.ended == ["completed"] for story in stories)
    assert federation.servers.most["s1"] <= 2, "the next knew the leases of the last"
    federation.at_rest()


def test_a_takeover_with_live_gateways_takes_milliseconds() -> None:
    federation = Federation(model(server("s1", 2)), gateways=4)
    federation.owner().kill()
    federation.world.run(0.1)
    assert federation.owner().core.owned() == ["m"]


def test_a_gateway_that_dies_frees_its_leases_by_expiry() -> None:
    federation = Federation(model(server("s1", 4)), gateways=2)
    for _ in range(4):
        federation.request(0, service_s=1000.0)
    federation.world.run(1)
    waiting = federation.request(1, service_s=1.0)
    federation.world.run(2)
    assert not waiting.granted_s
    federation.gateways[0].kill()
    federation.world.run(15)
    assert waiting.ended == ["completed"]


def test_a_late_grant_of_an_old_owner_is_refused() -> None:
    federation = Federation(model(server("s1", 1)), gateways=1)
    first = federation.request(0, service_s=4.0)
    waiting = federation.request(0, service_s=1.0)
    federation.world.run(1)
    old = federation.owner()
    old.pause(6.0)
    old.lose_connection()
    federation.world.run(20)
    assert first.ended == waiting.ended == ["completed"]
    assert len(waiting.granted_s) == 1
    assert federation.servers.most["s1"] == 1
    federation.at_rest()


def test_a_new_owner_learns_what_is_under_way_before_it_grants() -> None:
    federation = Federation(model(server("s1", 3)), gateways=3)
    for number in range(3):
        federation.request(number, service_s=30.0)
    federation.world.run(1)
    federation.owner().kill()
    federation.world.run(1)
    late = federation.request(0, service_s=1.0)
    federation.world.run(5)
    assert not late.granted_s
    assert federation.servers.most["s1"] == 3


def test_without_the_broker_credits_serve_and_then_clients_are_told_to_come_back() -> None:
    federation = Federation(model(server("s1", 40)))
    federation.world.run(2)
    running = federation.request(service_s=8.0)
    federation.broker.stop()
    federation.world.run(1)
    served = federation.request(service_s=1.0)
    assert served.granted_s, "by credit"
    federation.world.run(3)
    refused = federation.request(service_s=1.0, request_class=RequestClass.BATCH)
    assert refused.ended == ["dispatcher_away"]
    federation.world.run(5)
    assert running.ended == served.ended == ["completed"], "what was granted goes on"
    federation.broker.start()
    federation.world.run(3.5)
    again = federation.request(service_s=1.0)
    federation.world.run(2)
    assert again.ended == ["completed"]
    federation.world.run(10)
    federation.at_rest()


def test_those_who_wait_while_the_broker_restarts_keep_waiting_for_a_moment() -> None:
    federation = Federation(model(server("s1", 1)))
    federation.request(service_s=3.0)
    waiting = federation.request(service_s=1.0)
    federation.world.run(0.5)
    federation.broker.stop()
    federation.world.run(0.5)
    federation.broker.start()
    federation.world.run(20)
    assert waiting.ended == ["completed"]
    federation.at_rest()


def test_a_server_that_fails_is_left_for_another_and_no_ticket_is_lost() -> None:
    federation = Federation(model(server("s1", 4), server("s2", 4)), gateways=2)
    for gateway in federation.gateways:
        gateway.failing = lambda name: name == "s1"
    stories = [federation.request(number % 2, service_s=0.5) for number in range(20)]
    federation.world.run(30)
    assert all(story.ended[-1] == "completed" and story.servers[-1] == "s2" for story in stories)
    federation.at_rest()


def test_a_client_that_leaves_frees_its_place() -> None:
    federation = Federation(model(server("s1", 1)))
    federation.request(0, service_s=5.0)
    leaving = federation.request(0, service_s=1.0)
    staying = federation.request(1, service_s=1.0)
    federation.world.run(1)
    federation.gateways[0].leave(leaving)
    federation.world.run(10)
    assert staying.ended == ["completed"]
    assert not leaving.granted_s
    federation.at_rest()


def test_lost_letters_are_put_right_by_standings() -> None:
    federation = Federation(model(server("s1", 4)), gateways=2)
    federation.broker.lost = 0.3
    for number in range(60):
        federation.world.run(0.2)
        federation.request(number % 2, service_s=0.5)
    federation.world.run(20)
    federation.broker.lost = 0.0
    federation.world.run(120)
    assert {story.ended[-1] for story in federation.stories()} == {"completed"}
    federation.at_rest()


FAULTS = st.sampled_from(["dispatcher", "gateway", "broker", "pause", "server", "nothing"])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), faults=st.lists(st.tuples(FAULTS, st.floats(0.05, 6.0)), max_size=5))
def test_whatever_dies_every_request_ends_once_and_nothing_is_held(seed: int, faults: list[tuple[str, float]]) -> None:
    federation = Federation(model(server("s1", 4), server("s2", 2)), gateways=3, dispatchers=3, seed=seed)
    world = federation.world
    for number in range(40):
        world.after(
            world.random.uniform(0, 15),
            lambda number=number: (
                federation.request(number % 3, service_s=world.random.uniform(0.1, 4.0))
                if federation.gateways[number % 3].alive
                else None
            ),
        )
    for fault, seconds in faults:
        world.run(seconds)
        alive = [each for each in federation.dispatchers if each.alive]
        if fault == "dispatcher" and len(alive) > 1:
            world.random.choice(alive).kill()
        elif fault == "gateway" and sum(each.alive for each in federation.gateways) > 1:
            world.random.choice([each for each in federation.gateways if each.alive]).kill()
        elif fault == "broker" and federation.broker.up:
            federation.broker.stop()
            world.after(seconds, federation.broker.start)
        elif fault == "pause" and alive and federation.broker.up:
            victim = world.random.choice(alive)
            victim.pause(seconds)
            victim.lose_connection()
        elif fault == "server":
            for gateway in federation.gateways:
                gateway.failing = lambda name: name == "s1"
    world.run(120)
    federation.at_rest()
    limit = {"s1": 4, "s2": 2}
    assert all(federation.servers.running[name] == 0 for name in limit)


def test_a_desk_that_hears_of_a_newer_owner_lets_go() -> None:
    federation = Federation(model(server("s1", 1)), dispatchers=1)
    desk = federation.owner().core._desks["m"]
    assert desk.role is Role.OWNING
    assert desk.superseded(desk.epoch + 1)
    assert not desk.superseded(desk.epoch)


def test_clocks_may_differ_and_jump() -> None:
    """Only durations are written: who waits keeps its place and its deadline, whatever the clocks say."""
    federation = Federation(model(server("s1", 1)), gateways=2, dispatchers=2)
    federation.request(0, service_s=10.0)
    federation.world.run(1)
    first = federation.request(0, service_s=1.0)
    federation.world.run(1)
    second = federation.request(1, service_s=1.0)
    federation.world.run(1)
    federation.owner().kill()  # the next owner's clock is days away
    federation.world.run(20)
    assert first.ended == second.ended == ["completed"]
    assert first.granted_s[0] < second.granted_s[0]
    federation.at_rest()
