from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ilaas.adapters.secret import Secret, load_secret
from ilaas.core.errors import ConfigError


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = load_secret(tmp_path / "state", {})
    file = tmp_path / "state" / "secret.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_secret(tmp_path / "state", {}).pepper == first.pepper
    assert [path.name for path in file.parent.iterdir()] == ["secret.key"]
    assert load_secret(tmp_path / "other", {}).pepper != first.pepper


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_file_that_others_may_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    load_secret(tmp_path, {})
    (tmp_path / "secret.key").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        load_secret(tmp_path, {})
    assert (tmp_path / "secret.key").read_text().strip() not in caught.value.message


def test_processes_that_start_together_get_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        secrets = list(threads.map(lambda _: load_secret(tmp_path, {}), range(32)))
    assert len({secret.pepper for secret in secrets}) == 1


def test_the_environment_goes_before_the_file_and_makes_none(tmp_path: Path) -> None:
    given = load_secret(tmp_path, {"ILAAS_SECRET": "x" * 40 + "\n"})
    assert given.pepper == Secret("x" * 40).pepper
    assert list(tmp_path.iterdir()) == []


def test_the_text_of_the_file_may_move_to_the_environment(tmp_path: Path) -> None:
    of_file = load_secret(tmp_path, {})
    text = (tmp_path / "secret.key").read_text()
    moved = load_secret(tmp_path / "none", {"ILAAS_SECRET": text})
    assert moved.pepper == of_file.pepper
    assert moved.decrypt(of_file.encrypt("token")) == "token"


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 64])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret.key").write_bytes(content)
    (tmp_path / "secret.key").chmod(0o600)
    with pytest.raises(ConfigError):
        load_secret(tmp_path, {})


def test_what_is_encrypted_comes_back_only_with_the_same_secret() -> None:
    one, other = Secret("1" * 32), Secret("2" * 32)
    encrypted = one.encrypt("jeton d'accès")
    assert "jeton" not in encrypted
    assert one.decrypt(encrypted) == "jeton d'accès"
    for wrong in (encrypted[:-8] + "AAAAAAA=", "", "é"):
        with pytest.raises(ConfigError, match="another secret"):
            one.decrypt(wrong)
    with pytest.raises(ConfigError, match="another secret"):
        other.decrypt(encrypted)


def test_a_secret_does_not_show_itself() -> None:
    assert "1111" not in repr(Secret("1" * 32))
