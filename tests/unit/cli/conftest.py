"""The command, run in this process on a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ilaas.cli.main import run


@dataclass
class Result:
    code: int
    out: str
    err: str


Ilaas = Callable[..., Result]


@pytest.fixture
def ilaas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ilaas:
    """Run one command; the current folder is empty at first, and no setting comes from outside."""
    monkeypatch.chdir(tmp_path)
    for name in ("ILAAS_STATE_DIR", "ILAAS_SECRET", "ILAAS_DEBUG", "ILAAS_SERVER_TOKEN", "ILAAS_KEY"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = run(arguments)
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return call


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two models; the state folder is `state` beside the file."""
    path = tmp_path / "ilaas.yaml"
    path.write_text(
        """
state_dir: state
models:
  - name: mistral
    model: org/mistral-24b
    servers:
      - {id: lyon-1, url: "http://127.0.0.1:1", site: lyon, organisation: uni-lyon}
      - {id: lille-1, url: "http://127.0.0.1:2", site: lille, organisation: uni-lille}
  - name: bge
    category: embedding
    servers:
      - {id: lyon-2, url: "http://127.0.0.1:3", site: lyon, organisation: uni-lyon}
"""
    )
    return path
