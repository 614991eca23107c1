"""What the media commands say when something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Ilaas


@pytest.fixture(autouse=True)
def _no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ILAAS_STT_URL", "ILAAS_STT_CLIENT_ID", "ILAAS_STT_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_client_the_remedy_is_named(ilaas: Ilaas) -> None:
    result = ilaas("media", "list")
    assert result.code == 1
    assert "ilaas stt client create" in result.err
    assert "ILAAS_STT_CLIENT_ID" in result.err


def test_without_a_gateway_the_address_is_asked_for(ilaas: Ilaas, tmp_path: Path) -> None:
    folder = tmp_path / ".ilaas"
    folder.mkdir()
    (folder / "stt-client.json").write_text(json.dumps({"client_id": "a", "secret": "b"}))
    result = ilaas("media", "list")
    assert result.code == 1
    assert "ILAAS_STT_URL" in result.err


def test_an_address_where_nobody_listens_is_told(ilaas: Ilaas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILAAS_STT_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("ILAAS_STT_CLIENT_ID", "a")
    monkeypatch.setenv("ILAAS_STT_CLIENT_SECRET", "b")
    result = ilaas("media", "list")
    assert result.code == 1
    assert "does not answer at http://127.0.0.1:1" in result.err
