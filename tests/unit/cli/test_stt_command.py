"""`ilaas stt client`, on a store of its own and without a gateway."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ilaas.adapters.jwt_signer import JwtSigner
from ilaas.adapters.secret import load_secret
from ilaas.adapters.sql.enrichment_store import SqlEnrichmentStore
from ilaas.core.errors import Unauthenticated
from ilaas.services.enrichment.tokens import ApiTokens, TokenWorld
from tests.unit.cli.conftest import Ilaas

WHO = ("--organisation", "univ-lille", "--project", "video", "--name", "pod")


def clients(ilaas: Ilaas, *more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ilaas("stt", "client", "list", "--json", *more).out)
    return found


def may_sign_in(state_dir: Path, client_id: str, secret: str) -> bool:
    """Whether the API would give it a token."""

    async def ask() -> bool:
        kept = load_secret(state_dir)
        store = SqlEnrichmentStore(f"sqlite:///{state_dir / 'ilaas.db'}", kept)
        await store.open()
        world = TokenWorld(store=store, signer=JwtSigner(), pepper=kept.pepper, epoch=lambda: 1e9, new_id=lambda: "id")
        try:
            return bool((await ApiTokens(world).grant(client_id, secret, ())).token)
        except Unauthenticated:
            return False
        finally:
            await store.close()

    return asyncio.run(ask())


def test_creating_a_client_prints_what_its_settings_want_and_nothing_else(ilaas: Ilaas, tmp_path: Path) -> None:
    made = ilaas("stt", "client", "create", *WHO)
    assert made.code == 0
    shown = dict(line.split("=", 1) for line in made.out.splitlines())
    assert list(shown) == ["client_id", "client_secret"]
    assert shown["client_secret"] not in made.err
    assert may_sign_in(tmp_path / ".ilaas", client_id=shown["client_id"], secret=shown["client_secret"])
    (client,) = clients(ilaas)
    assert (client["organisation"], client["project"], client["name"]) == ("univ-lille", "video", "pod")
    assert client["scopes"] == ["scope_client", "scope_default"]
    assert shown["client_secret"] not in str(client)


def test_a_client_that_has_id_and_secret_already_keeps_both(
    ilaas: Ilaas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILAAS_CLIENT_SECRET", "the-secret-that-pod-has")
    made = ilaas("stt", "client", "create", *WHO, "--id", "pod-lille", "--json")
    assert json.loads(made.out) == {"client_id": "pod-lille", "client_secret": "the-secret-that-pod-has"}
    assert may_sign_in(tmp_path / ".ilaas", "pod-lille", "the-secret-that-pod-has")
    monkeypatch.setenv("ILAAS_CLIENT_SECRET", "short")
    assert ilaas("stt", "client", "create", *WHO[:-1], "other").code == 1
    monkeypatch.delenv("ILAAS_CLIENT_SECRET")
    assert ilaas("stt", "client", "create", *WHO[:-1], "third", "--id", "../x").code == 1


def test_a_remote_worker_is_a_client_of_other_scopes_and_may_say_what_it_runs(ilaas: Ilaas) -> None:
    options = ("--scopes", "processing,translation", "--serves", "qwen@lille", "--keep-media", "7d", "--sign-webhooks")
    made = ilaas("stt", "client", "create", *WHO, *options)
    assert "webhook_secret=" in made.out
    (client,) = clients(ilaas)
    assert client["scopes"] == ["scope_default", "scope_processing_worker", "scope_translation_worker"]
    assert client["policy"]["serves"] == {"model": "qwen", "infrastructure": "lille"}
    assert client["policy"]["keep_media_s"] == 7 * 86_400
    assert client["signs_webhooks"] is True
    assert ilaas("stt", "client", "create", *WHO, "--scopes", "all").code == 2


def test_a_revoked_client_is_listed_only_when_asked_for_and_gets_no_token(ilaas: Ilaas, tmp_path: Path) -> None:
    shown = json.loads(ilaas("stt", "client", "create", *WHO, "--json").out)
    assert ilaas("stt", "client", "revoke", shown["client_id"]).code == 0
    assert clients(ilaas) == []
    (client,) = clients(ilaas, "--all")
    assert client["active"] is False
    assert not may_sign_in(tmp_path / ".ilaas", shown["client_id"], shown["client_secret"])
    assert ilaas("stt", "client", "revoke", "nobody").code == 1
    assert ilaas("stt", "client", "create", *WHO).code == 0


def test_commands_on_a_folder_without_a_store_say_so(ilaas: Ilaas) -> None:
    listed = ilaas("stt", "client", "list")
    assert listed.code == 1
    assert "no state" in listed.err
