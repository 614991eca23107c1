"""What requests used and cost, on twins: factors chosen, records filled, answers told, budgets counted."""

from __future__ import annotations

from datetime import date
from typing import Any

import orjson
import pytest

from ilaas.core.billing import Rates, Tariff
from ilaas.core.catalogue import Catalogue, ModelSpec, ServerSpec
from ilaas.core.errors import QuotaExhausted
from ilaas.core.impact import FRANCE, Case, ImpactFactors, SiteFactors
from ilaas.core.impact_measured import PowerReading, SharingRules
from ilaas.core.quota import Limits, Subject
from ilaas.core.usage import Usage
from ilaas.core.values import Outcome
from ilaas.services.impacts import Deployed, Impacts, Machine
from ilaas.services.models import ModelPages
from tests.support.twins import Clock, House, key, server

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
PLAIN = {"id": "c", "object": "chat.completion", "model": "org/served", "choices": [], "usage": USAGE}
ASKS = {"x-ilaas-impact": "1"}
PAGE = "http://exporter/metrics"
RULES = SharingRules(host_w_per_gpu=0.0, least_tokens=10, least_measured_s=10.0, stale_s=30.0)
TARIFF = Tariff(
    model="public",
    valid_from=date(1970, 1, 1),
    rates=Rates(prompt_per_million=1_000_000, completion_per_million=3_000_000, per_request=7),
)


class Method:
    """Counts what it is asked for; a joule for each token of answer."""

    def __init__(self) -> None:
        self.asked: list[Deployed] = []

    def __call__(self, deployed: Deployed) -> ImpactFactors | None:
        self.asked.append(deployed)
        if "unheard" in deployed.names:
            return None
        case = Case(output_token_nj=10**9)
        site = deployed.site
        return ImpactFactors(
            method="test/1",
            measured=False,
            middle=(case,),
            low=case,
            high=Case(output_token_nj=2 * 10**9),
            site=site,
            grid_ug_per_kwh=site.grid_ug_per_kwh,
        )


def catalogue(*models: ModelSpec) -> Catalogue:
    return Catalogue.of(models)


def informed(house: House) -> House:
    house.impacts._estimate = Method()
    house.impacts.use(house.registry.catalogue)
    return house


# -- the snapshot ---------------------------------------------------------------------------------------------------


def test_each_server_is_estimated_once_with_its_own_site_and_again_only_when_what_counts_changes() -> None:
    method = Method()
    impacts = Impacts(method)
    saclay = SiteFactors(name="site-one", pue=1.1, grid_g_per_kwh=10, grid_source="s", grid_date="2026")
    servers = (server("one", quantisation="fp8"), server("two"))
    model = ModelSpec(name="m", servers=servers, aliases=("a",), impact_reference="org/ref")
    impacts.use(catalogue(model), [saclay])
    assert [asked.site for asked in method.asked] == [saclay, FRANCE]
    assert method.asked[0].names == ("org/ref", "org/served", "m", "a")
    impacts.use(catalogue(ModelSpec(name="m", servers=servers, aliases=("a",), impact_reference="org/ref")), [saclay])
    assert len(method.asked) == 2
    assert impacts.of("m", "one", Usage(0, 36)).co2e_ug == 100
    impacts.use(catalogue(model), [])
    assert len(method.asked) == 3, "of 'one' only: 'two' was at a site of France before"


def test_a_model_that_no_method_knows_is_unknown_and_so_is_one_that_is_not_there() -> None:
    impacts = Impacts(Method())
    impacts.use(catalogue(ModelSpec(name="unheard", servers=(server("one"),))))
    for place in (("unheard", "one"), ("never", "there")):
        impact = impacts.of(*place, Usage(10, 10))
        assert (impact.method, impact.energy_high_mj) == ("unknown", 0)


def measured(clock: Clock, *, power_w: float = 100.0) -> Impacts:
    impacts = Impacts(Method(), clock, RULES)
    spec = server("one", power_url=PAGE, power_gpus=("0",))
    impacts.use(catalogue(ModelSpec(name="m", servers=(spec, server("two")))))
    machine = Machine(PAGE, ("0",))
    assert impacts.machines() == (machine,)
    for _ in range(3):
        impacts.read(machine, PowerReading({"0": power_w}))
        impacts.computed("m", "one", Usage(100, 90, cached_tokens=0))
        clock.now += 10
    impacts.refresh()
    return impacts


def test_measured_power_is_preferred_and_shared_out_over_the_tokens_that_were_computed() -> None:
    impacts = measured(Clock())
    impact = impacts.of("m", "one", Usage(0, 100))
    assert impact.measured
    assert impact.method == "measured/1 + test/1"
    # 100 W for 20 s over 2 x (90 + 100 / 10) weighted tokens: 10 J a token, times PUE.
    assert impact.energy_mj == pytest.approx(100 * 10_000 * FRANCE.pue, rel=1e-6)
    assert not impacts.of("m", "two", Usage(0, 100)).measured


def test_when_readings_go_stale_the_estimate_is_used_again() -> None:
    clock = Clock()
    impacts = measured(clock)
    clock.now += 31
    impacts.refresh()
    impact = impacts.of("m", "one", Usage(0, 100))
    assert (impact.measured, impact.method, impact.energy_mj) == (False, "test/1", 100_000)


def test_what_was_measured_outlives_a_change_of_the_catalogue_as_long_as_the_machine_stays() -> None:
    impacts = measured(Clock())
    impacts.use(catalogue(ModelSpec(name="other", servers=(server("new", power_url=PAGE, power_gpus=("0",)),))))
    assert impacts.of("other", "new", Usage(0, 1)).measured
    impacts.use(catalogue(ModelSpec(name="other", servers=(server("new"),))))
    assert impacts.machines() == ()
    assert not impacts.of("other", "new", Usage(0, 1)).measured
    impacts.read(Machine(PAGE, ("0",)), PowerReading({"0": 1.0}))  # a late answer of a machine that is gone


# -- record and answer ----------------------------------------------------------------------------------------------


def test_the_record_has_the_impact_and_nothing_is_told_to_who_did_not_ask() -> None:
    house = informed(House())
    asked = house.ask()
    asked.call.plain(PLAIN)
    assert "impact" not in orjson.loads(asked.writer.body)
    record = asked.record
    assert (record.energy_mj, record.energy_low_mj, record.energy_high_mj) == (20_000, 20_000, 40_000)
    assert record.co2e_ug == round(20_000 * FRANCE.grid_ug_per_kwh / 3_600_000_000)
    assert (record.impact_method, record.energy_measured) == ("test/1", False)


def test_a_whole_answer_gets_its_impact_at_its_end_and_is_else_the_same_byte_for_byte() -> None:
    house = informed(House())
    plain, told = house.ask(), None
    plain.call.plain(PLAIN)
    told = house.ask(headers=ASKS)
    told.call.plain(PLAIN)
    assert told.writer.body.startswith(plain.writer.body[:-1] + b',"impact":{')
    impact = orjson.loads(told.writer.body)["impact"]
    assert impact["energy_wh"] == {"value": 0.0056, "min": 0.0055, "max": 0.012}
    assert (impact["method"], impact["measured"]) == ("test/1", False)
    assert "x-ilaas-impact" not in told.call.request.headers.decode()


@pytest.mark.parametrize("wants_usage", [False, True])
@pytest.mark.parametrize("sends_usage", [False, True])
@pytest.mark.parametrize("sends_done", [False, True])
def test_a_stream_ends_with_one_chunk_of_impact_whatever_the_server_sends(
    wants_usage: bool, sends_usage: bool, sends_done: bool
) -> None:
    house = informed(House())
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    asked = house.ask(headers=ASKS, stream=True, **options)
    asked.call.stream()
    choice: dict[str, Any] = {"index": 0, "delta": {"content": "Bon"}, "finish_reason": "stop"}
    head = {"id": "c", "object": "chat.completion.chunk", "model": "org/served"}
    asked.call.event(orjson.dumps({**head, "choices": [choice]}))
    if sends_usage:
        asked.call.event(orjson.dumps({**head, "choices": [], "usage": USAGE}))
    if sends_done:
        asked.call.event(b"[DONE]")
    asked.call.sink.upstream_end()
    *chunks, done = [event.removeprefix(b"data: ") for event in asked.writer.body.strip().split(b"\n\n")]
    assert done == b"[DONE]"
    trees = [orjson.loads(chunk) for chunk in chunks]
    last = trees[-1]
    assert {**head, "model": "public", "choices": []} == {name: last[name] for name in (*head, "choices")}
    assert last["impact"]["method"] == "test/1"
    assert ["impact" in tree for tree in trees].count(True) == 1
    assert ["usage" in tree for tree in trees].count(True) == wants_usage
    tokens = 20 if sends_usage else asked.record.completion_tokens
    assert asked.record.energy_mj == tokens * 1000
    assert (
        last["impact"]["energy_wh"]["min"] <= asked.record.energy_mj / 3_600_000 <= last["impact"]["energy_wh"]["max"]
    )
    assert asked.record.outcome is Outcome.COMPLETED
    assert house.at_rest()


def test_an_answer_that_no_method_covers_says_so_without_a_number() -> None:
    house = House()
    asked = house.ask(headers=ASKS)
    asked.call.plain(PLAIN)
    impact = orjson.loads(asked.writer.body)["impact"]
    assert impact == {
        "energy_wh": None,
        "usage_gco2e": None,
        "embodied_gco2e": None,
        "method": "unknown",
        "measured": False,
    }
    assert asked.record.impact_method == "unknown"


def test_a_request_that_no_server_worked_for_has_no_method() -> None:
    house = informed(House(servers=[]))
    asked = house.ask(headers=ASKS)
    assert asked.writer.status == 503
    assert (asked.record.impact_method, asked.record.energy_mj) == ("", 0)


def test_an_answer_in_a_list_is_left_as_it_is() -> None:
    house = informed(House())
    asked = house.ask({"model": "public", "query": "q", "documents": ["d"]}, path="/v1/rerank", headers=ASKS)
    asked.call.plain([{"index": 0}])
    assert orjson.loads(asked.writer.body) == [{"index": 0}]


def test_the_list_of_models_shows_1000_tokens_over_all_servers() -> None:
    house = informed(House())
    pages = ModelPages(house.inference.admission, house.broker, 1, house.impacts)
    shown = {page["id"]: page["impact"] for page in pages.all(key())}
    assert shown["other"] is None
    assert shown["public"] == {
        "energy_wh_per_1k_tokens": {"value": 0.28, "min": 0.27, "max": 0.56},
        "gco2e_per_1k_tokens": {"value": 0.012, "min": 0.011, "max": 0.024},
        "embodied_gco2e_per_1k_tokens": None,
        "method": "test/1",
        "measured": False,
    }


# -- prices ---------------------------------------------------------------------------------------------------------


def test_the_record_has_the_price_by_the_tariff_and_own_servers_are_free() -> None:
    for owner, price in (("uni-b", 100 + 60 + 7), ("uni-a", 0)):
        house = House(servers=[server("one", owner=owner)])
        house.prices.set_tariffs([TARIFF])
        asked = house.ask()
        asked.call.plain(PLAIN)
        assert asked.record.price_micro_eur == price


def test_what_is_refunded_costs_nothing_and_what_the_client_broke_off_costs_what_was_computed() -> None:
    house = House(servers=[server("one", owner="uni-b")])
    house.prices.set_tariffs([TARIFF])
    failed = house.ask()
    failed.call.head(500)
    left = house.ask(stream=True)
    left.call.stream()
    left.call.event(orjson.dumps({"choices": [{"index": 0, "delta": {"content": "Bon"}, "finish_reason": None}]}))
    left.call.event(orjson.dumps({"choices": [{"index": 0, "delta": {"content": "jour"}, "finish_reason": None}]}))
    left.exchange.client_left()  # type: ignore[attr-defined]
    refunded, broken_off = house.outbox.records
    assert refunded.outcome is not Outcome.COMPLETED
    assert refunded.price_micro_eur == 0
    expected = broken_off.prompt_tokens + 3 * broken_off.completion_tokens + 7
    assert broken_off.outcome is Outcome.CLIENT_LEFT_DECODE
    assert broken_off.price_micro_eur == expected > 7
    assert house.at_rest()


def budgeted(micro_eur: int, *more: ServerSpec) -> House:
    house = House(servers=[server("one", owner="uni-b"), *more])
    house.prices.set_tariffs([TARIFF])
    house.book.set_limits({Subject.of_organisation("uni-a"): Limits(budget_micro_eur_per_month=micro_eur)})
    return house


def test_a_budget_is_held_by_estimate_and_settled_by_the_price() -> None:
    house = budgeted(1000)
    asked = house.ask(max_tokens=300)  # 900 and more by estimate
    blocked = house.ask(max_tokens=300)
    assert blocked.writer.status == 429
    assert blocked.writer.error["code"] == QuotaExhausted.code
    assert "euros per month of organisation 'uni-a'" in blocked.writer.error["message"]
    asked.call.plain(PLAIN)
    assert asked.record.price_micro_eur == 167
    again = house.ask(max_tokens=250)
    assert again.first_call is not None, "the rest of the estimate came back"
    again.call.plain(PLAIN)


def test_only_own_servers_may_be_used_when_the_budget_is_gone() -> None:
    house = budgeted(0, server("own", owner="uni-a"))
    assert house.ask().writer.status == 429
    own = house.ask(headers={"x-ilaas-routing-mode": "private-only"})
    assert own.first_call is not None


def test_without_a_tariff_a_budget_stops_nobody() -> None:
    house = budgeted(0)
    house.prices.set_tariffs([])
    assert house.ask().first_call is not None
