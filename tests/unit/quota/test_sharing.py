"""Several gateways, one limit: what they admit together, whatever happens to the messages between them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilaas.core.quota import Limits, QuotaBook, Reservation, Subject
from ilaas.core.quota.sharing import SILENT_S, Sharing
from ilaas.core.quota.telling import Tell, read
from ilaas.core.quota.use import NOTHING_USED, OwnUse

KEY = Subject.of_key("k")
EPOCH = 1_800_000_000.0


@dataclass
class Gateway:
    """A book with its sharing, and what a test knows of it beside what it tells."""

    name: str
    limits: Limits
    held: list[Reservation] = field(default_factory=list)
    heard: dict[str, OwnUse] = field(default_factory=dict)
    """By other gateway: what it had used when it sent the newest message that came here."""
    numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.book = QuotaBook({KEY: self.limits})
        self.sharing = Sharing(self.book, self.name)

    @property
    def use(self) -> OwnUse:
        account = self.book.known(KEY.id)
        return account.own_use() if account else NOTHING_USED


@dataclass
class Message:
    sender: Gateway
    receiver: Gateway
    data: bytes
    use: OwnUse
    """Of the sender when it was sent."""


class Federation:
    """Gateways and a network that loses, repeats, delays and reorders as it is told."""

    def __init__(self, count: int, **limits: int) -> None:
        self.limits = Limits(**limits)
        self.now = 0.0
        self.gateways = [Gateway(f"g{number}", self.limits) for number in range(count)]
        self.network: list[Message] = []
        self.sent: list[Message] = []

    def add(self, name: str) -> Gateway:
        self.gateways.append(Gateway(name, self.limits))
        return self.gateways[-1]

    def reserve(self, gateway: Gateway, tokens: int = 10, micro_eur: int = 0) -> bool:
        found = gateway.book.reserve((KEY,), tokens, micro_eur, self.now, EPOCH + self.now)
        if isinstance(found, Reservation):
            gateway.held.append(found)
            return True
        return False

    def settle(self, gateway: Gateway, tokens: int) -> None:
        if gateway.held:
            gateway.book.settle(gateway.held.pop(0), tokens, tokens, self.now, EPOCH + self.now)

    def refund(self, gateway: Gateway) -> None:
        if gateway.held:
            gateway.book.refund(gateway.held.pop(0), self.now, EPOCH + self.now)

    def send(self, gateway: Gateway, *messages: bytes) -> None:
        for data in messages or gateway.sharing.due(self.now, EPOCH + self.now):
            new = [Message(gateway, other, data, gateway.use) for other in self.gateways if other is not gateway]
            self.network += new
            self.sent += new

    def deliver(self, message: Message) -> None:
        receiver = message.receiver
        found = read(message.data)
        if isinstance(found, Tell) and found.number > receiver.numbers.get(found.sender, 0):
            receiver.numbers[found.sender] = found.number
            receiver.heard[found.sender] = message.use
        receiver.sharing.receive(message.data, self.now, EPOCH + self.now)

    def deliver_all(self) -> None:
        waiting, self.network = self.network, []
        for message in waiting:
            self.deliver(message)

    def exchange(self) -> None:
        """Everybody tells, and everything comes."""
        for gateway in self.gateways:
            self.send(gateway)
        self.deliver_all()

    def introduce(self) -> None:
        """Everybody asks everybody, as gateways do when they start."""
        for gateway in self.gateways:
            self.send(gateway, gateway.sharing.ask())
        self.deliver_all()
        self.exchange()

    def in_flight(self) -> int:
        return sum(len(gateway.held) for gateway in self.gateways)


def test_what_one_gateway_admits_is_refused_by_the_others_once_they_know() -> None:
    all_ = Federation(3, requests_per_minute=60)
    assert sum(all_.reserve(all_.gateways[0]) for _ in range(100)) == 60
    all_.exchange()
    assert not any(all_.reserve(gateway) for gateway in all_.gateways)


def test_excess_of_a_moment_is_debt_that_all_gateways_pay_back() -> None:
    all_ = Federation(2, requests_per_minute=60)
    for gateway in all_.gateways:
        assert sum(all_.reserve(gateway) for _ in range(100)) == 60
    all_.exchange()
    all_.now = 60.0
    assert not any(all_.reserve(gateway) for gateway in all_.gateways)
    all_.now = 61.0
    assert all_.reserve(all_.gateways[0])


def test_slots_are_shared_and_come_back_when_requests_end() -> None:
    all_ = Federation(2, simultaneous_requests=3)
    one, other = all_.gateways
    assert [all_.reserve(one), all_.reserve(one)] == [True, True]
    all_.exchange()
    assert [all_.reserve(other), all_.reserve(other)] == [True, False]
    all_.settle(one, 5)
    all_.exchange()
    assert [all_.reserve(other), all_.reserve(other)] == [True, False]


def test_what_is_held_elsewhere_counts_against_the_day_and_gives_way_to_the_real_count() -> None:
    all_ = Federation(2, tokens_per_day=100)
    one, other = all_.gateways
    assert all_.reserve(one, 80)
    all_.exchange()
    assert not all_.reserve(other, 30)
    all_.settle(one, 20)
    all_.exchange()
    assert all_.reserve(other, 80)
    assert not all_.reserve(other, 1)


def test_a_gateway_that_died_holds_nothing_after_five_seconds_and_not_before() -> None:
    all_ = Federation(2, simultaneous_requests=1)
    dead, other = all_.gateways
    assert all_.reserve(dead)
    all_.exchange()
    all_.now = SILENT_S
    all_.send(other)
    assert not all_.reserve(other)
    all_.now = SILENT_S + 0.25
    all_.send(other)
    assert all_.reserve(other)


def test_a_long_request_is_told_each_second_so_that_its_gateway_is_not_taken_for_dead() -> None:
    all_ = Federation(2, simultaneous_requests=1)
    one, other = all_.gateways
    assert all_.reserve(one)
    for _ in range(40):
        all_.exchange()
        all_.now += 0.25
    assert not all_.reserve(other)


def test_a_gateway_that_is_heard_again_holds_again_what_it_has() -> None:
    all_ = Federation(2, simultaneous_requests=1)
    one, other = all_.gateways
    assert all_.reserve(one)
    all_.exchange()
    all_.now = 20.0
    all_.send(other)
    all_.network.clear()
    all_.send(one)
    all_.deliver_all()
    assert not all_.reserve(other)


def test_nothing_is_sent_when_nothing_changed_and_nothing_is_under_way() -> None:
    all_ = Federation(2, requests_per_minute=60)
    one, other = all_.gateways
    assert all_.reserve(one)
    all_.settle(one, 5)
    all_.exchange()
    for _ in range(20):
        all_.now += 0.25
        assert one.sharing.due(all_.now, EPOCH + all_.now) == []
        assert other.sharing.due(all_.now, EPOCH + all_.now) == []


def test_a_gateway_that_starts_asks_and_does_not_begin_with_full_buckets() -> None:
    all_ = Federation(2, requests_per_minute=60, tokens_per_day=10_000, simultaneous_requests=70)
    one = all_.gateways[0]
    for _ in range(60):
        assert all_.reserve(one)
    for _ in range(59):
        all_.settle(one, 100)
    all_.exchange()
    new = all_.add("g0 again")
    assert not new.sharing.caught_up
    all_.send(new, new.sharing.ask())
    all_.deliver_all()
    all_.exchange()
    assert new.sharing.caught_up
    assert not all_.reserve(new)
    account = new.book.known(KEY.id)
    assert account is not None
    assert account.day_tokens == 5900
    assert account.in_flight == 1
    all_.now = 1.0
    assert all_.reserve(new)


def test_rate_counters_survive_the_gateway_that_counted_them() -> None:
    all_ = Federation(2, tokens_per_minute=1000)
    first, survivor = all_.gateways
    assert all_.reserve(first, 900)
    all_.settle(first, 900)
    all_.exchange()
    all_.gateways.remove(first)
    new = all_.add("g0 again")
    all_.send(new, new.sharing.ask())
    all_.deliver_all()
    all_.exchange()
    assert not all_.reserve(new, 200)
    assert all_.reserve(new, 100)
    assert not all_.reserve(survivor, 200)


@pytest.mark.parametrize("store_first", [True, False])
def test_the_same_use_told_by_the_store_and_by_a_gateway_counts_once(*, store_first: bool) -> None:
    all_ = Federation(2, tokens_per_day=1000)
    one = all_.gateways[0]
    assert all_.reserve(one, 300)
    all_.settle(one, 300)
    all_.exchange()
    assert all_.reserve(one, 200)
    all_.settle(one, 200)

    def store() -> None:
        for each in all_.gateways:
            each.book.preload(
                KEY, day_tokens=300, month_tokens=300, month_micro_eur=300, now_s=all_.now, epoch_s=EPOCH + all_.now
            )

    if store_first:
        store()
    all_.exchange()
    store()
    for each in all_.gateways:
        account = each.book.known(KEY.id)
        assert account is not None
        assert (account.day_tokens, account.month_tokens, account.month_micro_eur) == (500, 500, 500)


def test_what_another_gateway_counted_yesterday_does_not_count_today() -> None:
    all_ = Federation(2, tokens_per_day=1000)
    one, other = all_.gateways
    assert all_.reserve(one, 900)
    all_.settle(one, 900)
    all_.exchange()
    assert not all_.reserve(other, 200)
    all_.now = 86_400.0
    assert all_.reserve(other, 200)
    assert all_.reserve(one, 50)
    all_.exchange()
    assert not all_.reserve(one, 800)
    assert all_.reserve(one, 750)


def test_a_message_that_comes_late_brings_no_request_back_to_life() -> None:
    all_ = Federation(2, simultaneous_requests=1)
    one, other = all_.gateways
    assert all_.reserve(one)
    all_.send(one)
    all_.settle(one, 1)
    all_.send(one)
    begun, ended = all_.network
    for message in (ended, begun, ended, begun):
        all_.deliver(message)
    assert all_.reserve(other)


def test_who_missed_a_message_asks_for_everything() -> None:
    all_ = Federation(2, simultaneous_requests=5)
    all_.introduce()
    one, other = all_.gateways
    second = Subject.of_key("another")
    for book in (one.book, other.book):
        book.set_limits({KEY: all_.limits, second: all_.limits})
    held = one.book.reserve((second,), 1, 0, 0.0, EPOCH)
    assert isinstance(held, Reservation)
    all_.exchange()
    one.book.settle(held, 1, 1, 0.1, EPOCH)
    all_.send(one)
    all_.network.clear()  # that it ended was never heard
    assert all_.reserve(one)
    all_.exchange()
    account = other.book.known(second.id)
    assert account is not None
    assert account.in_flight == 1
    all_.exchange()  # it asks
    all_.exchange()  # and is told
    assert account.in_flight == 0


def test_messages_of_another_version_or_kind_are_passed_over() -> None:
    gateway = Gateway("g", Limits(requests_per_minute=1))
    for message in (b"", b"{}", b"[]", b'["tell2"]', b'["ask1","x"]', b'["tell1","x",1,true,0,0]'):
        gateway.sharing.receive(message, 0.0, EPOCH)
    other_kind = b'["tell1","x",1,true,0,0,[["robot\\u0000r",1,9,9,0,0,0,0,null,null,0,0,0]]]'
    gateway.sharing.receive(other_kind, 0.0, EPOCH)
    assert gateway.sharing.due(0.0, EPOCH) == []


def test_a_gateway_without_the_limit_empties_no_bucket_of_one_that_has_it() -> None:
    limited, unlimited = Gateway("a", Limits(tokens_per_minute=100)), Gateway("b", Limits(simultaneous_requests=9))
    assert isinstance(unlimited.book.reserve((KEY,), 10, 0, 0.0, EPOCH), Reservation)
    unlimited.sharing.due(0.0, EPOCH)
    unlimited.sharing.receive(limited.sharing.ask(), 0.1, EPOCH)
    for message in unlimited.sharing.due(0.2, EPOCH):
        limited.sharing.receive(message, 0.2, EPOCH)
    assert isinstance(limited.book.reserve((KEY,), 100, 0, 0.2, EPOCH), Reservation)


# -- any interleaving --------------------------------------------------------------------------------------------------

N = 4
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve"] * 5 + ["settle", "settle", "refund", "tell", "tell", "wait"]),
        st.integers(0, N - 1),
        st.integers(1, 30),
    ),
    max_size=150,
)
KINDS = st.lists(st.sampled_from(["deliver"] * 6 + ["lose", "repeat", "later"]), min_size=1, max_size=40)
CAP = {"requests_per_minute": 20, "tokens_per_minute": 200, "simultaneous_requests": 6, "tokens_per_day": 300}


def unseen(all_: Federation, gateway: Gateway, what: str) -> int:
    """What the others have of it beyond what they had when they sent what came here."""
    return sum(
        max(0, getattr(other.use, what) - getattr(gateway.heard.get(other.name, NOTHING_USED), what))
        for other in all_.gateways
        if other is not gateway
    )


def check_admission(all_: Federation, gateway: Gateway) -> None:
    """All together stay within each limit, but for what this gateway can't have heard."""
    uses = [each.use for each in all_.gateways]
    for what, limit in (
        ("requests", CAP["requests_per_minute"] * (1 + all_.now / 60)),
        ("tokens", CAP["tokens_per_minute"] * (1 + all_.now / 60)),
        ("in_flight", CAP["simultaneous_requests"]),
        ("tokens", CAP["tokens_per_day"]),
    ):
        together = sum(getattr(use, what) for use in uses)
        assert together <= limit + unseen(all_, gateway, what) + 1e-6, (what, gateway.name)


def do(all_: Federation, step: tuple[str, int, int]) -> None:
    action, number, size = step
    gateway = all_.gateways[number]
    if action == "reserve":
        if all_.reserve(gateway, size):
            check_admission(all_, gateway)
    elif action == "settle" and gateway.held:
        all_.settle(gateway, size % (gateway.held[0].tokens + 1))
    elif action == "refund":
        all_.refund(gateway)
    elif action == "tell":
        all_.send(gateway)
    elif action == "wait":
        all_.now = min(all_.now + size / 100, SILENT_S - 0.1)


def pass_on(all_: Federation, kind: str, seed: int) -> None:
    """One of the messages under way, whichever."""
    if not all_.network:
        return
    message = all_.network[random.Random(seed).randrange(len(all_.network))]
    if kind in {"deliver", "repeat"}:
        all_.deliver(message)
    if kind in {"deliver", "lose"}:
        all_.network.remove(message)


@given(STEPS, KINDS)
@settings(max_examples=150, deadline=None)
def test_four_gateways_admit_no_more_than_the_limit_and_what_they_could_not_have_heard(
    steps: list[tuple[str, int, int]], kinds: list[str]
) -> None:
    all_ = Federation(N, **CAP)
    all_.introduce()
    for number, step in enumerate(steps):
        do(all_, step)
        for again in range(2):
            pass_on(all_, kinds[(2 * number + again) % len(kinds)], 2 * number + again)


@given(STEPS, KINDS)
@settings(max_examples=150, deadline=None)
def test_after_any_losses_all_agree_once_everything_was_told_and_old_messages_change_nothing(
    steps: list[tuple[str, int, int]], kinds: list[str]
) -> None:
    all_ = Federation(N, **CAP)
    all_.introduce()
    for number, step in enumerate(steps):
        do(all_, step)
        pass_on(all_, kinds[number % len(kinds)], number)
    all_.network.clear()
    all_.introduce()  # the last word of a gateway that has nothing to say any more may be lost
    accounts = [each.book.account(KEY, all_.now, EPOCH + all_.now) for each in all_.gateways]
    held = sum(reservation.tokens for each in all_.gateways for reservation in each.held)
    used = sum(gateway.use.settled_tokens for gateway in all_.gateways)
    for account in accounts:
        assert account is not None
        assert account.in_flight == all_.in_flight()
        assert account.day_tokens == used
        assert account.elsewhere.held_tokens + account.held_tokens == held
    before = [(each.own_use(), each.elsewhere, each.request_level, each.token_level) for each in accounts if each]
    for message in all_.sent:
        all_.deliver(message)
    assert [
        (each.own_use(), each.elsewhere, each.request_level, each.token_level) for each in accounts if each
    ] == before
