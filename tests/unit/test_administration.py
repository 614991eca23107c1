from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from ilaas.adapters.store_memory import MemoryStore
from ilaas.core.errors import Conflict, InvalidRequest, NotFound
from ilaas.core.keys import digest, hint, is_mistyped
from ilaas.core.quota.limits import Limits
from ilaas.core.tenancy import Organisation, Project
from ilaas.core.values import Engine, RequestClass, RoutingMode
from ilaas.services.administration import Administration, NewKey, NewServer

PEPPER = b"p" * 32
NEW = NewKey(organisation="Lille", project="linguistique", name="corpus")
SERVER = NewServer(model="mistral", url="https://gpu.example.org/v1/", site="Lyon 1", owner="Lyon", token="a token")


class World:
    """Administration on a store in memory, with a clock and random bytes that are the same each time."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0
        self.checked: list[str] = []
        self.store = MemoryStore(lambda: self.now_s)
        self.admin = Administration(self.store, PEPPER, lambda: self.now_s, random.Random(1).randbytes, self.check_url)

    def check_url(self, url: str) -> None:
        self.checked.append(url)
        if "10.0.0.1" in url:
            raise InvalidRequest("A private address.", param="url")

    async def usable(self, secret: str) -> bool:
        key = (await self.store.directory()).keys.get(digest(secret.encode(), PEPPER))
        return key is not None and key.usable_at(self.now_s)

    async def actions(self) -> list[str]:
        return [line.action for line in reversed(await self.store.audit())]

    async def everything_written(self) -> str:
        return repr((await self.store.audit(), (await self.store.directory()), await self.store.list_keys()))


@pytest.fixture
def world() -> World:
    return World()


async def test_a_created_key_works_and_its_organisation_and_project_are_made(world: World) -> None:
    secret, key = await world.admin.create_key(NEW, actor="anne")
    assert not is_mistyped(secret)
    assert secret.startswith("ilaas-")
    assert key.hint == hint(secret)
    assert await world.usable(secret)
    directory = await world.store.directory()
    assert directory.organisations == {"Lille": Organisation(name="Lille")}
    assert directory.projects == {("Lille", "linguistique"): Project(organisation="Lille", name="linguistique")}
    assert {line.organisation for line in await world.store.audit()} == {"Lille"}
    assert [(line.actor, line.action, line.at_s) for line in await world.store.audit()] == [
        ("anne", "key.created", world.now_s),
        ("anne", "project.created", world.now_s),
        ("anne", "organisation.created", world.now_s),
    ]


async def test_the_secret_is_written_nowhere(world: World) -> None:
    secret, key = await world.admin.create_key(NEW)
    second = await world.admin.rotate_key(key.id, 60)
    await world.admin.revoke_key(second)
    written = await world.everything_written()
    for each in (secret, second):
        assert each not in written
        assert digest(each.encode(), PEPPER).hex() not in written


async def test_a_key_carries_what_was_asked_for(world: World) -> None:
    new = NewKey(
        organisation="Lille",
        project="p",
        name="n",
        priority=4,
        routing_mode=RoutingMode.PRIVATE_ONLY,
        classes=frozenset({RequestClass.BATCH}),
        models=frozenset({"mistral"}),
        expires_at_s=world.now_s + 10,
        limits=Limits(tokens_per_day=5),
        chat_client=True,
        threshold=3,
    )
    _, key = await world.admin.create_key(new)
    for name in NewKey.__dataclass_fields__:
        assert getattr(key, name) == getattr(new, name), name
    after = json.loads((await world.store.audit())[0].after or "")
    assert after["limits"] == {"tokens_per_day": 5}
    assert after["models"] == ["mistral"]


async def test_an_organisation_that_is_there_is_left_as_it_is(world: World) -> None:
    await world.admin.put_organisation(Organisation(name="Lille", weight=7.0))
    await world.admin.create_key(NEW)
    assert (await world.store.directory()).organisations["Lille"].weight == 7.0


async def test_two_live_keys_of_a_project_can_not_have_one_name(world: World) -> None:
    secret, _ = await world.admin.create_key(NEW)
    with pytest.raises(Conflict, match="corpus"):
        await world.admin.create_key(NEW)
    await world.admin.revoke_key(secret)
    await world.admin.create_key(NEW)


@pytest.mark.parametrize("field", ["organisation", "project", "name"])
@pytest.mark.parametrize("value", ["", " a", "a\nb", "x" * 256, "\x00"])
async def test_names_that_can_not_be_shown_are_refused(world: World, field: str, value: str) -> None:
    names = {"organisation": "o", "project": "p", "name": "n", field: value}
    with pytest.raises(InvalidRequest, match=field) as caught:
        await world.admin.create_key(NewKey(**names))
    assert caught.value.param == field
    assert await world.actions() == []


async def test_an_expiry_in_the_past_is_refused(world: World) -> None:
    with pytest.raises(InvalidRequest, match="future"):
        await world.admin.create_key(NewKey(organisation="o", project="p", name="n", expires_at_s=world.now_s))


async def test_a_token_that_clients_have_becomes_a_key(world: World) -> None:
    key = await world.admin.import_token(NEW, "sk-old-token-1")
    assert key.hint == "sk…"
    assert await world.usable("sk-old-token-1")
    with pytest.raises(Conflict, match="exists already"):
        await world.admin.import_token(NewKey(organisation="o", project="p", name="another"), "sk-old-token-1")
    assert "old-token" not in await world.everything_written()


@pytest.mark.parametrize("token", ["", "two words", "tab\t", "é" * 20, "ilaas-mistyped"])
async def test_what_can_not_be_a_token_is_refused(world: World, token: str) -> None:
    with pytest.raises(InvalidRequest):
        await world.admin.import_token(NEW, token)


async def test_a_key_is_revoked_by_id_by_secret_or_by_its_beginning(world: World) -> None:
    for select in (
        lambda secret, key: key.id,
        lambda secret, key: secret,
        lambda secret, key: key.hint,
        lambda secret, key: secret[:9],
        lambda secret, key: f" {secret}\n",
    ):
        secret, key = await world.admin.create_key(NEW)
        revoked = await world.admin.revoke_key(select(secret, key), actor="anne")
        assert revoked.id == key.id
        assert not await world.usable(secret)
        assert (await world.store.audit())[0].action == "key.revoked"


async def test_revoking_twice_is_harmless(world: World) -> None:
    secret, _ = await world.admin.create_key(NEW)
    first = await world.admin.revoke_key(secret)
    world.now_s += 100
    assert await world.admin.revoke_key(secret) == first
    assert (await world.actions()).count("key.revoked") == 1


async def test_a_beginning_of_several_keys_revokes_none_and_names_them(world: World) -> None:
    first = await world.admin.import_token(NEW, "same-one")
    second = await world.admin.import_token(NewKey(organisation="o", project="p", name="n"), "same-two")
    with pytest.raises(InvalidRequest, match=f"{first.id}, {second.id}"):
        await world.admin.revoke_key("sa…")
    assert await world.usable("same-one")
    assert await world.usable("same-two")


@pytest.mark.parametrize("selector", ["", "i", "ilaas-", "ilaas", "…", "key_", "unknown"])
async def test_what_means_no_key_revokes_none(world: World, selector: str) -> None:
    secret, _ = await world.admin.create_key(NEW)
    with pytest.raises(NotFound):
        await world.admin.revoke_key(selector)
    assert await world.usable(secret)


async def test_a_mistyped_secret_is_called_so_and_not_repeated(world: World) -> None:
    secret, _ = await world.admin.create_key(NEW)
    typo = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    with pytest.raises(InvalidRequest, match="mistyped") as caught:
        await world.admin.revoke_key(typo)
    assert typo not in caught.value.message
    with pytest.raises(NotFound) as unknown:
        await world.admin.revoke_key("sk-some-token-of-another-service")
    assert "sk-some" not in unknown.value.message


async def test_a_rotated_key_keeps_its_name_and_the_old_secret_works_for_the_overlap(world: World) -> None:
    old_secret, old = await world.admin.create_key(
        NewKey(organisation="Lille", project="p", name="n", priority=2, limits=Limits(tokens_per_day=9))
    )
    new_secret = await world.admin.rotate_key(old.id, 3600.0, actor="anne")
    assert await world.usable(old_secret)
    assert await world.usable(new_secret)
    new = (await world.store.directory()).keys[digest(new_secret.encode(), PEPPER)]
    assert (new.name, new.priority, new.limits, new.expires_at_s) == ("n", 2, Limits(tokens_per_day=9), None)
    world.now_s += 3600.0
    assert not await world.usable(old_secret)
    assert await world.usable(new_secret)
    assert [found.id for found in await world.admin.list_keys()] == [new.id]


async def test_rotation_without_overlap_ends_the_old_secret_at_once(world: World) -> None:
    secret, _ = await world.admin.create_key(NEW)
    new_secret = await world.admin.rotate_key(secret, 0)
    assert not await world.usable(secret)
    assert await world.usable(new_secret)


async def test_rotation_never_makes_a_key_live_longer(world: World) -> None:
    end = world.now_s + 100
    secret, key = await world.admin.create_key(NewKey(organisation="o", project="p", name="n", expires_at_s=end))
    new_secret = await world.admin.rotate_key(key.id, 3600.0)
    world.now_s = end
    assert not await world.usable(secret)
    assert not await world.usable(new_secret)


async def test_a_key_is_rotated_once_and_only_while_it_lives(world: World) -> None:
    secret, key = await world.admin.create_key(NEW)
    new_secret = await world.admin.rotate_key(key.id, 60)
    with pytest.raises(Conflict, match="replaced"):
        await world.admin.rotate_key(secret, 60)
    await world.admin.revoke_key(new_secret)
    with pytest.raises(Conflict, match="create a new one"):
        await world.admin.rotate_key(new_secret, 60)
    with pytest.raises(NotFound):
        await world.admin.rotate_key("unknown", 60)
    with pytest.raises(InvalidRequest, match="overlap"):
        await world.admin.rotate_key(key.id, -1)


async def test_changing_an_organisation_tells_what_it_was_before(world: World) -> None:
    await world.admin.put_organisation(Organisation(name="Lille"))
    await world.admin.put_organisation(Organisation(name="Lille", weight=3.0))
    await world.admin.put_organisation(Organisation(name="Lille", weight=3.0))
    assert await world.actions() == ["organisation.created", "organisation.changed"]
    line = (await world.store.audit())[0]
    assert (json.loads(line.before or "")["weight"], json.loads(line.after or "")["weight"]) == (1.0, 3.0)


async def test_an_added_server_is_ready_to_be_called(world: World) -> None:
    added = await world.admin.add_server(SERVER)
    assert list(await world.store.servers()) == [added]
    assert (added.model, added.spec.url, added.spec.served_name) == ("mistral", "https://gpu.example.org", "mistral")
    assert (added.spec.engine, added.spec.token, added.spec.from_file) == (Engine.VLLM, "a token", False)
    assert added.spec.id.startswith("lyon-1-mistral-")
    assert world.checked == ["https://gpu.example.org"]
    line = (await world.store.audit())[0]
    assert "a token" not in repr(line)
    assert json.loads(line.after or "")["has_token"] is True


async def test_a_server_that_may_be_taken_away_at_any_time_is_kept_and_audited_as_such(world: World) -> None:
    assert not (await world.admin.add_server(SERVER)).spec.spot
    added = await world.admin.add_server(replace(SERVER, url="https://spot.example.org", spot=True))
    assert added.spec.spot
    assert added in await world.store.servers()
    assert [json.loads(line.after or "")["spot"] for line in await world.store.audit()] == [True, False]


async def test_a_server_at_an_address_that_must_not_be_called_is_refused(world: World) -> None:
    with pytest.raises(InvalidRequest, match="private"):
        await world.admin.add_server(NewServer(model="m", url="http://10.0.0.1:8000", site="s", owner="o"))
    assert list(await world.store.servers()) == []
    assert await world.actions() == []


@pytest.mark.parametrize(
    "url",
    ["", "gpu.example.org", "ftp://gpu", "http://", "http://u:p@gpu", "http://gpu?x=1", "http://gpu:99999", "http://["],
)
async def test_an_address_that_is_no_base_url_is_refused(world: World, url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await world.admin.add_server(NewServer(model="m", url=url, site="s", owner="o"))
    assert caught.value.param == "url"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://gpu:8000", "http://gpu:8000"),
        ("http://gpu/", "http://gpu"),
        ("http://gpu/v1", "http://gpu"),
        ("http://gpu/proxy/v1/", "http://gpu/proxy"),
    ],
)
async def test_an_address_is_kept_without_v1(world: World, given: str, kept: str) -> None:
    added = await world.admin.add_server(NewServer(model="m", url=given, site="s", owner="o"))
    assert added.spec.url == kept


@pytest.mark.parametrize("changes", [{"max_parallel_requests": 0}, {"owner_reserved": -1}, {"id": " x"}])
async def test_a_server_with_impossible_numbers_is_refused(world: World, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        await world.admin.add_server(NewServer(model="m", url="http://gpu", site="s", owner="o", **changes))


async def test_a_server_id_is_given_once(world: World) -> None:
    new = NewServer(model="m", url="http://gpu", site="s", owner="o", id="mine")
    await world.admin.add_server(new)
    with pytest.raises(Conflict, match="mine"):
        await world.admin.add_server(new)


@pytest.mark.parametrize("url", [SERVER.url, "https://gpu.example.org", "https://gpu.example.org/"])
async def test_an_address_serves_a_model_once(world: World, url: str) -> None:
    added = await world.admin.add_server(SERVER)
    with pytest.raises(Conflict, match=added.spec.id) as caught:
        await world.admin.add_server(replace(SERVER, url=url))
    assert caught.value.param == "url"
    assert (await world.admin.add_server(replace(SERVER, model="another"))).model == "another"
    assert len(await world.store.servers()) == 2


async def test_a_removed_server_is_gone_and_one_of_the_file_can_not_be_removed(world: World) -> None:
    added = await world.admin.add_server(SERVER)
    await world.admin.remove_server(added.spec.id)
    assert list(await world.store.servers()) == []
    assert "a token" not in repr(await world.store.audit())
    with pytest.raises(NotFound, match="configuration file"):
        await world.admin.remove_server("of-the-file")


async def test_any_server_drains_and_resumes_with_one_line_each(world: World) -> None:
    await world.admin.drain_server("of-the-file", actor="anne")
    await world.admin.drain_server("of-the-file")
    assert await world.store.draining() == {"of-the-file"}
    await world.admin.resume_server("of-the-file")
    assert await world.store.draining() == frozenset()
    assert await world.actions() == ["server.drained", "server.resumed"]
