"""The file by which a running gateway says how to reach it, for the commands of the same machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ilaas.app.settings import RUN_FILE


@dataclass(frozen=True, slots=True)
class Address:
    """Where a running gateway listens."""

    host: str
    port: int
    ops_host: str
    ops_port: int


def write_run_file(path: Path, address: Address) -> None:
    """Write it whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps({"pid": os.getpid(), **asdict(address)}))
    partial.replace(path)


def read_run_file(state_dir: Path) -> dict[str, Any] | None:
    """Where the gateway of this state folder listens, and its process id `pid`; None when none runs."""
    try:
        found: dict[str, Any] = json.loads((state_dir / RUN_FILE).read_text())
        os.kill(int(found["pid"]), 0)
    except PermissionError:
        return found  # it runs as another user
    except (OSError, ValueError, KeyError):
        return None
    return found


def ops_url(run: Mapping[str, Any]) -> str:
    """Base URL of the ops listener, from this machine."""
    return _url(run["ops_host"], run["ops_port"])


def public_url(run: Mapping[str, Any]) -> str:
    """Base URL of the public listener, from this machine."""
    return _url(run["host"], run["port"])


def _url(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
