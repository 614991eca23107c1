"""What is set on organisations, projects and keys holds for requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import pytest

from ilaas.adapters.store_memory import MemoryStore
from ilaas.core.catalogue import Catalogue, ModelSpec
from ilaas.core.errors import Forbidden, ModelNotFound, StoreUnavailable
from ilaas.core.fairness import FairWeight
from ilaas.core.keys import digest
from ilaas.core.quota import Limits, QuotaBook, Subject
from ilaas.core.tenancy import Agreement, Directory, Key, Organisation, OrganisationKind, Project
from ilaas.ports.store import AuditLine
from ilaas.services.admission import Admission
from ilaas.services.reconcile import Reconcile
from ilaas.services.registry import Registry

PEPPER = b"p" * 32
LINE = AuditLine(at_s=1.0, actor="a", action="b", subject="c")
HEADERS = {b"authorization": b"Bearer the secret"}
LILLE = Organisation(name="Lille")
CORPUS = Project(organisation="Lille", name="corpus")
ONLY_LLAMA = replace(CORPUS, models=frozenset({"llama"}))


class World:
    def __init__(self) -> None:
        self.store = MemoryStore(lambda: 10.0)
        self.registry = Registry(PEPPER)
        self.book = QuotaBook()
        self.weights: Mapping[str, float] = {}
        self.reconcile = Reconcile(self.store, self.registry, self.book, self.configure)
        self.admission = Admission(self.registry, lambda: 10.0)

    def configure(self, _catalogue: Catalogue, weights: Mapping[str, float]) -> None:
        """What the dispatcher is told."""
        self.weights = weights

    async def begin(self, *of_file: Organisation) -> None:
        self.reconcile.use_file((ModelSpec(name="mistral"), ModelSpec(name="llama")), of_file)
        await self.store.add_organisation(LILLE, LINE)
        await self.store.add_project(CORPUS, LINE)
        key = Key(
            id="k", digest=digest(b"the secret", PEPPER), hint="", name="n", organisation="Lille", project="corpus"
        )
        await self.store.add_key(key, LINE)
        await self.reconcile.refresh()

    def models(self) -> list[str]:
        return [model.name for model in self.admission.models(self.admission.authenticate(HEADERS))]


@pytest.fixture
def world() -> World:
    return World()


async def test_limits_of_organisation_model_project_and_key_reach_the_quotas(world: World) -> None:
    await world.begin()
    one, two, three = Limits(tokens_per_day=1), Limits(tokens_per_day=2), Limits(requests_per_minute=3)
    await world.store.change_organisation(
        LILLE, replace(LILLE, limits=one, model_limits={"mistral": two, "llama": Limits()}), LINE
    )
    await world.store.change_project(CORPUS, replace(CORPUS, limits=three), LINE)
    await world.reconcile.refresh()
    assert world.book.limits_of(Subject.of_organisation("Lille")) == one
    assert world.book.limits_of(Subject.of_model("Lille", "mistral")) == two
    assert world.book.limits_of(Subject.of_project("Lille", "corpus")) == three
    for unlimited in (Subject.of_model("Lille", "llama"), Subject.of_key("k"), Subject.of_project("Lyon", "corpus")):
        assert not world.book.limits_of(unlimited)


async def test_the_keys_of_a_project_that_is_not_active_are_refused_until_it_is_again(world: World) -> None:
    await world.begin()
    asleep = replace(CORPUS, active=False)
    await world.store.change_project(CORPUS, asleep, LINE)
    await world.reconcile.refresh()
    with pytest.raises(Forbidden, match="'corpus' is not active"):
        world.admission.authenticate(HEADERS)
    await world.store.change_project(asleep, CORPUS, LINE)
    await world.reconcile.refresh()
    assert world.models() == ["mistral", "llama"]


async def test_a_projects_models_bound_those_of_its_keys(world: World) -> None:
    await world.begin()
    await world.store.change_project(CORPUS, replace(CORPUS, models=frozenset({"llama"})), LINE)
    await world.reconcile.refresh()
    assert world.models() == ["llama"]
    key = world.admission.authenticate(HEADERS)
    with pytest.raises(ModelNotFound):
        world.admission.model(key, "mistral")
    assert world.admission.model(key, "llama").name == "llama"


async def test_an_organisation_that_is_no_consumer_sends_no_requests(world: World) -> None:
    await world.begin()
    await world.store.change_organisation(LILLE, replace(LILLE, consumer=False), LINE)
    await world.reconcile.refresh()
    with pytest.raises(Forbidden, match="consumer"):
        world.admission.authenticate(HEADERS)


async def test_an_organisation_of_the_file_is_adopted_once_so_that_it_can_have_projects(world: World) -> None:
    await world.begin(Organisation(name="Angers", weight=5.0))
    assert "Angers" in (await world.store.directory()).organisations
    assert world.registry.directory.organisations["Angers"].weight == 5.0
    assert (await world.store.audit(limit=1))[0].actor == "configuration file"
    revision = await world.store.revision()
    assert not await world.reconcile.refresh()
    world.reconcile.use_file((), (Organisation(name="Angers", weight=7.0), Organisation(name="Brest")))
    await world.reconcile.refresh()
    assert set((await world.store.directory()).organisations) == {"Lille", "Angers", "Brest"}
    assert await world.store.revision() == revision + 1
    assert world.registry.directory.organisations["Angers"].weight == 7.0


async def test_the_file_decides_what_it_can_say_of_an_organisation_and_the_store_the_rest(world: World) -> None:
    await world.begin(Organisation(name="Lille", weight=5.0))
    agreement = Agreement(ends_on=date(2030, 1, 1))
    stored = replace(LILLE, weight=2.0, kind=OrganisationKind.PARTNER, agreement=agreement)
    await world.store.change_organisation(LILLE, stored, LINE)
    await world.reconcile.refresh()
    found = world.registry.directory.organisations["Lille"]
    assert (found.weight, found.kind, found.agreement) == (5.0, OrganisationKind.PARTNER, agreement)


async def test_what_the_file_leaves_out_of_an_organisation_can_be_set_at_run_time(world: World) -> None:
    await world.begin(Organisation(name="Lille"))
    limits = Limits(tokens_per_day=5)
    await world.store.change_organisation(LILLE, replace(LILLE, weight=3.0, consumer=False, limits=limits), LINE)
    await world.reconcile.refresh()
    found = world.registry.directory.organisations["Lille"]
    assert (found.weight, found.consumer, found.contributor, found.limits) == (3.0, False, True, limits)
    assert world.book.limits_of(Subject.of_organisation("Lille")) == limits


async def test_what_is_taken_out_of_the_file_holds_no_longer(world: World) -> None:
    await world.begin(Organisation(name="Brest", weight=5.0, consumer=False, limits=Limits(tokens_per_day=5)))
    world.reconcile.use_file((), (Organisation(name="Brest"),))
    await world.reconcile.refresh()
    assert world.registry.directory.organisations["Brest"] == Organisation(name="Brest")


async def test_the_dispatcher_shares_by_the_weights_set_by_hand_and_by_those_of_the_formula(world: World) -> None:
    await world.begin(Organisation(name="Angers", weight=5.0), Organisation(name="Brest", weight=7.0))
    by_formula = [FairWeight(organisation=name, weight=0.5) for name in ("Lille", "Angers")]
    await world.store.put_fair_weights([*by_formula, FairWeight(organisation="Brest", weight=2.5, by_hand=True)], LINE)
    await world.reconcile.refresh()
    assert world.weights == {"Lille": 0.5, "Angers": 5.0, "Brest": 2.5}
    await world.store.drop_fair_weight("Brest", LINE)
    await world.reconcile.refresh()
    assert world.weights["Brest"] == 7.0


async def test_a_change_that_was_just_written_holds_once_the_gateway_was_told(world: World) -> None:
    await world.begin()
    await world.store.change_project(CORPUS, ONLY_LLAMA, LINE)
    assert world.models() == ["mistral", "llama"]
    await world.reconcile.follow()
    assert world.models() == ["llama"]


async def test_being_told_while_the_store_does_not_answer_harms_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> int:
        raise StoreUnavailable("away")

    await world.begin()
    monkeypatch.setattr(world.store, "revision", away)
    await world.reconcile.follow()
    assert world.models() == ["mistral", "llama"]


async def test_two_readings_at_once_never_leave_the_older_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is held up after it has read the directory, and would bring in what was true before the change."""
    await world.begin()
    await world.store.change_project(CORPUS, ONLY_LLAMA, LINE)
    read, go_on, directory = asyncio.Event(), asyncio.Event(), world.store.directory

    async def slow() -> Directory:
        found = await directory()
        monkeypatch.setattr(world.store, "directory", directory)
        read.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(world.store, "directory", slow)
    first = asyncio.create_task(world.reconcile.refresh())
    await read.wait()
    await world.store.change_project(ONLY_LLAMA, replace(CORPUS, models=frozenset({"mistral"})), LINE)
    second = asyncio.create_task(world.reconcile.follow())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, second)
    assert world.models() == ["mistral"]
