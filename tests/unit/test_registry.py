from __future__ import annotations

from ilaas.core.catalogue import Catalogue, ModelSpec
from ilaas.core.keys import digest
from ilaas.core.tenancy import Directory, Key, Organisation
from ilaas.services.registry import Registry

PEPPER = b"p" * 32


def directory(secret: bytes, **changes: object) -> Directory:
    key = Key(id="key_1", digest=digest(secret, PEPPER), hint="", name="n", organisation="o", project="p", **changes)
    return Directory(keys={key.digest: key}, organisations={"o": Organisation(name="o", weight=3.0)}, revision=7)


def test_a_new_registry_knows_nothing() -> None:
    registry = Registry(PEPPER)
    assert registry.find_key(b"any") is None
    assert registry.catalogue.models == {}
    assert registry.weights() == {}
    assert registry.take_used() == {}


def test_a_key_is_found_by_its_secret_only() -> None:
    registry = Registry(PEPPER)
    registry.set_directory(directory(b"the secret"))
    found = registry.find_key(b"the secret")
    assert found is not None
    assert found.id == "key_1"
    assert registry.find_key(b"the secret ") is None
    assert registry.find_key(b"") is None
    assert registry.find_key(found.digest) is None
    assert Registry(b"q" * 32).find_key(b"the secret") is None


def test_a_revoked_key_is_found_so_that_its_holder_is_told_why() -> None:
    registry = Registry(PEPPER)
    registry.set_directory(directory(b"s", revoked_at_s=5.0))
    found = registry.find_key(b"s")
    assert found is not None
    assert found.revoked_at_s == 5.0


def test_a_new_directory_replaces_the_old_one_whole() -> None:
    registry = Registry(PEPPER)
    registry.set_directory(directory(b"old"))
    registry.set_directory(directory(b"new"))
    assert registry.find_key(b"old") is None
    assert registry.find_key(b"new") is not None
    assert registry.directory.revision == 7
    assert registry.weights() == {"o": 3.0}


def test_a_new_catalogue_replaces_the_old_one_whole() -> None:
    registry = Registry(PEPPER)
    registry.set_catalogue(Catalogue.of([ModelSpec(name="one")]))
    registry.set_catalogue(Catalogue.of([ModelSpec(name="two")]))
    assert list(registry.catalogue.models) == ["two"]


def test_the_keys_used_since_last_asked_come_with_their_last_use() -> None:
    times = iter([10.0, 20.0, 30.0, 40.0])
    registry = Registry(PEPPER, lambda: next(times))
    registry.key_used("a")
    registry.key_used("b")
    registry.key_used("a")
    assert registry.take_used() == {"a": 30.0, "b": 20.0}
    assert registry.take_used() == {}
    registry.key_used("b")
    assert registry.take_used() == {"b": 40.0}
