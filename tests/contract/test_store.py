"""What every Store does, whatever holds its state."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ilaas.core.errors import Conflict, NotFound, Unprocessable
from ilaas.core.quota.limits import Limits
from ilaas.core.tenancy import Organisation
from ilaas.ports.store import Store
from tests.contract.conftest import Harness
from tests.contract.samples import LILLE, key, line, record, server

DAY_S = 86_400.0


@pytest.fixture
async def store(harness: Harness) -> Store:
    await harness.store.put_organisation(LILLE, line("organisation.created"))
    return harness.store


async def state(store: Store) -> tuple[object, ...]:
    directory = await store.directory()
    return (
        await store.revision(),
        dict(directory.keys),
        dict(directory.organisations),
        list(await store.servers()),
        await store.draining(),
        list(await store.audit()),
    )


async def test_a_new_store_is_empty_and_has_a_revision(harness: Harness) -> None:
    directory = await harness.store.directory()
    assert (dict(directory.keys), dict(directory.organisations)) == ({}, {})
    assert directory.revision == await harness.store.revision()
    assert list(await harness.store.servers()) == []
    assert list(await harness.store.list_keys()) == []
    assert await harness.store.draining() == frozenset()
    assert list(await harness.store.audit()) == []


async def test_an_organisation_comes_back_as_it_was_put(store: Store) -> None:
    assert (await store.directory()).organisations == {LILLE.name: LILLE}


async def test_an_organisation_can_be_changed(store: Store) -> None:
    changed = replace(LILLE, weight=4.0, consumer=False, limits=Limits(simultaneous_requests=0))
    await store.put_organisation(changed, line())
    assert (await store.directory()).organisations == {LILLE.name: changed}


async def test_putting_the_same_organisation_again_changes_nothing(store: Store) -> None:
    before = await state(store)
    await store.put_organisation(LILLE, line())
    assert await state(store) == before


async def test_adding_an_organisation_never_replaces_one(store: Store) -> None:
    assert await store.add_organisation(Organisation(name="CNRS"), line())
    before = await state(store)
    assert not await store.add_organisation(Organisation(name=LILLE.name, weight=9.0), line())
    assert await state(store) == before
    assert set((await store.directory()).organisations) == {"CNRS", LILLE.name}


async def test_a_key_comes_back_with_every_field(store: Store) -> None:
    await store.add_key(key(), line())
    bare = key("key_2", models=None, expires_at_s=None, threshold=None, limits=Limits(), chat_client=False)
    await store.add_key(bare, line())
    assert (await store.directory()).keys == {key().digest: key(), bare.digest: bare}
    assert list(await store.list_keys()) == [key(), bare]


async def test_no_models_at_all_is_not_the_same_as_all_models(store: Store) -> None:
    await store.add_key(key(models=frozenset()), line())
    assert [found.models for found in await store.list_keys()] == [frozenset()]


async def test_every_change_bumps_the_revision_and_leaves_its_audit_line(store: Store) -> None:
    changes = [
        ("organisation", lambda: store.add_organisation(Organisation(name="CNRS"), line("organisation"))),
        ("add", lambda: store.add_key(key(), line("add"))),
        ("change", lambda: store.change_key(key(priority=9), line("change"))),
        ("replace", lambda: store.replace_key(key(replaced_by="key_2"), key("key_2"), line("replace"))),
        ("put", lambda: store.put_server(server(), line("put"))),
        ("drain", lambda: store.set_draining("any", line("drain"), draining=True)),
        ("resume", lambda: store.set_draining("any", line("resume"), draining=False)),
        ("remove", lambda: store.remove_server("lyon-1", line("remove"))),
    ]
    for action, change in changes:
        before = await store.revision()
        await change()
        assert await store.revision() > before, action
        assert (await store.directory()).revision == await store.revision()
        assert (await store.audit(limit=1))[0] == line(action)
    newest_first = [one.action for one in await store.audit()]
    assert newest_first == [action for action, _ in reversed(changes)] + ["organisation.created"]
    assert len(await store.audit(limit=3)) == 3


async def test_a_digest_is_taken_for_ever(store: Store) -> None:
    await store.add_key(key(revoked_at_s=5.0), line())
    before = await state(store)
    with pytest.raises(Conflict):
        await store.add_key(key("key_2", digest=key().digest), line())
    assert await state(store) == before


async def test_an_id_is_taken_for_ever(store: Store) -> None:
    await store.add_key(key(), line())
    with pytest.raises(Conflict):
        await store.add_key(key(digest=b"another" * 4, name="another"), line())


async def test_a_live_key_holds_its_name_in_its_project(store: Store) -> None:
    await store.add_key(key(name="n"), line())
    before = await state(store)
    with pytest.raises(Conflict, match="'n'"):
        await store.add_key(key("key_2", name="n"), line())
    assert await state(store) == before
    await store.add_key(key("key_2", name="n", project="another"), line())


@pytest.mark.parametrize(
    "end", [{"revoked_at_s": 1_799_999_999.0}, {"expires_at_s": 1_800_000_000.0}, {"replaced_by": "key_0"}]
)
async def test_a_name_is_free_again_after(store: Store, end: dict[str, object]) -> None:
    await store.add_key(key(name="n"), line())
    await store.change_key(key(name="n", **end), line())
    await store.add_key(key("key_2", name="n"), line(at_s=1_800_000_000.0))
    with pytest.raises(Conflict):
        await store.add_key(key("key_3", name="n"), line(at_s=1_800_000_000.0))


async def test_a_key_needs_its_organisation(store: Store) -> None:
    before = await state(store)
    with pytest.raises(NotFound, match="Nowhere"):
        await store.add_key(key(organisation="Nowhere"), line())
    assert await state(store) == before


async def test_changing_an_unknown_key_is_refused(store: Store) -> None:
    before = await state(store)
    with pytest.raises(NotFound, match="key_9"):
        await store.change_key(key("key_9"), line())
    assert await state(store) == before


async def test_a_change_keeps_the_digest_and_the_last_use(store: Store) -> None:
    await store.add_key(key(), line())
    await store.touch_keys({"key_1": 7.0})
    await store.change_key(key(digest=b"other" * 6, created_at_s=1.0, last_used_at_s=None, priority=1), line())
    assert list(await store.list_keys()) == [key(priority=1, last_used_at_s=7.0)]


async def test_a_revoked_key_stays_in_the_directory_so_that_its_holder_is_told(store: Store) -> None:
    await store.add_key(key(), line())
    await store.directory()
    await store.change_key(key(revoked_at_s=1_800_000_000.0), line())
    assert (await store.directory()).keys[key().digest].revoked_at_s == 1_800_000_000.0


async def test_a_directory_once_given_never_changes(store: Store) -> None:
    await store.add_key(key(), line())
    given = await store.directory()
    await store.change_key(key(priority=77), line())
    await store.add_key(key("key_2"), line())
    await store.directory()
    assert dict(given.keys) == {key().digest: key()}


async def test_long_dead_keys_are_not_in_the_directory(store: Store, harness: Harness) -> None:
    await store.add_key(key("dead", revoked_at_s=harness.clock.now_s - 31 * DAY_S), line())
    await store.add_key(key("late", expires_at_s=harness.clock.now_s - 31 * DAY_S), line())
    await store.add_key(key("fresh", revoked_at_s=harness.clock.now_s - 29 * DAY_S), line())
    assert {found.id for found in (await store.directory()).keys.values()} == {"fresh"}


async def test_replacing_a_key_lets_the_new_one_take_its_name(store: Store) -> None:
    await store.add_key(key(name="n"), line())
    old, new = key(name="n", replaced_by="key_2", expires_at_s=1_800_000_100.0), key("key_2", name="n")
    await store.replace_key(old, new, line())
    assert (await store.directory()).keys == {old.digest: old, new.digest: new}


async def test_a_replacement_that_fails_changes_nothing(store: Store) -> None:
    await store.add_key(key(name="n"), line())
    await store.add_key(key("key_2"), line())
    before = await state(store)
    with pytest.raises(Conflict):
        await store.replace_key(key(name="n", replaced_by="key_2"), key("key_2", name="n"), line())
    with pytest.raises(NotFound):
        await store.replace_key(key("key_9"), key("key_3"), line())
    assert await state(store) == before


async def test_keys_are_listed_in_order_and_dead_ones_only_when_asked_for(store: Store, harness: Harness) -> None:
    now = harness.clock.now_s
    await store.add_organisation(Organisation(name="Angers"), line())
    await store.add_key(key("b", project="b", name="b"), line())
    await store.add_key(key("a", project="b", name="a"), line())
    await store.add_key(key("c", project="a", name="z", expires_at_s=now), line())
    await store.add_key(key("d", project="a", name="y", revoked_at_s=now), line())
    await store.add_key(key("e", organisation="Angers"), line())
    assert [found.id for found in await store.list_keys()] == ["e", "a", "b"]
    assert [found.id for found in await store.list_keys(include_dead=True)] == ["e", "d", "c", "a", "b"]
    assert [found.id for found in await store.list_keys(organisation="Angers")] == ["e"]


async def test_last_use_only_moves_forward_and_is_no_change_of_the_directory(store: Store) -> None:
    await store.add_key(key("a"), line())
    await store.add_key(key("b"), line())
    revision = await store.revision()
    await store.touch_keys({"a": 20.0, "unknown": 5.0})
    await store.touch_keys({"b": 30.0, "a": 10.0})
    await store.touch_keys({})
    assert {found.id: found.last_used_at_s for found in await store.list_keys()} == {"a": 20.0, "b": 30.0}
    assert await store.revision() == revision


async def test_a_server_comes_back_with_every_field(store: Store) -> None:
    bare = server("aix-1", token=None, max_parallel_requests=None, context_window=None, quantisation=None, spot=False)
    await store.put_server(server(), line())
    await store.put_server(bare, line())
    assert list(await store.servers()) == [bare, server()]


async def test_a_server_id_is_given_once(store: Store) -> None:
    await store.put_server(server(), line())
    before = await state(store)
    with pytest.raises(Conflict, match="lyon-1"):
        await store.put_server(server(site="another"), line())
    assert await state(store) == before


async def test_a_removed_server_is_gone_with_its_mark(store: Store) -> None:
    await store.put_server(server(), line())
    await store.set_draining("lyon-1", line(), draining=True)
    await store.remove_server("lyon-1", line())
    assert list(await store.servers()) == []
    assert await store.draining() == frozenset()
    with pytest.raises(NotFound, match="lyon-1"):
        await store.remove_server("lyon-1", line())


async def test_servers_of_the_file_and_of_the_store_can_drain(store: Store) -> None:
    await store.put_server(server(), line())
    await store.set_draining("lyon-1", line(), draining=True)
    await store.set_draining("of-the-file", line(), draining=True)
    assert await store.draining() == {"lyon-1", "of-the-file"}
    assert [found.spec.draining for found in await store.servers()] == [True]
    before = await state(store)
    await store.set_draining("lyon-1", line(), draining=True)
    assert await state(store) == before
    await store.set_draining("lyon-1", line(), draining=False)
    assert await store.draining() == {"of-the-file"}
    assert [found.spec.draining for found in await store.servers()] == [False]


async def test_a_record_is_counted_once_however_often_it_comes(store: Store) -> None:
    revision = await store.revision()
    assert await store.add_usage([]) == 0
    assert await store.add_usage([record(1), record(2), record(2)]) == 2
    assert await store.add_usage([record(2), record(3)]) == 1
    assert await store.add_usage([record(1), record(2), record(3)]) == 0
    assert await store.revision() == revision


async def test_a_batch_with_a_value_that_does_not_fit_is_refused_whole(store: Store) -> None:
    with pytest.raises(Unprocessable):
        await store.add_usage([record(1), record(2, prompt_tokens=2**63)])
    assert await store.add_usage([record(1), record(2)]) == 2


async def test_of_two_at_once_one_gets_the_name(store: Store, harness: Harness) -> None:
    other = harness.another()
    await other.open()
    results = await asyncio.gather(
        *(one.add_key(key(f"key_{number}", name="n"), line()) for number, one in enumerate([store, other] * 4)),
        return_exceptions=True,
    )
    assert [type(result) for result in results].count(Conflict) == 7
    assert results.count(None) == 1
    assert len(await store.list_keys()) == 1


async def test_another_process_sees_each_change_with_the_next_revision(store: Store, harness: Harness) -> None:
    other = harness.another()
    await other.open()
    seen = await other.directory()
    for number in range(5):
        await store.add_key(key(f"key_{number}"), line())
        assert await other.revision() > seen.revision
        seen = await other.directory()
        assert {found.id for found in seen.keys.values()} == {f"key_{one}" for one in range(number + 1)}
    await store.change_key(key("key_0", revoked_at_s=1_799_999_999.0), line())
    await store.change_key(key("key_1", revoked_at_s=5.0), line())
    await store.put_organisation(replace(LILLE, weight=8.0), line())
    seen = await other.directory()
    assert seen.keys[key("key_0").digest].revoked_at_s == 1_799_999_999.0
    assert key("key_1").digest not in seen.keys
    assert seen.organisations[LILLE.name].weight == 8.0
