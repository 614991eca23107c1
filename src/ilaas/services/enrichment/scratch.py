"""Folders for files that live as long as one step; what a killed worker left is removed by the next one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from ilaas.services.enrichment.context import Work

_PREFIX = "step-"


@contextlib.asynccontextmanager
async def scratch_folder(work: Work) -> AsyncIterator[Path]:
    """An empty folder, gone at the end."""
    root = work.context.policy.scratch_dir
    folder = await asyncio.to_thread(_make, root)
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def clear_scratch(root: Path) -> int:
    """Remove the folders of processes of this machine that are no more; returns how many."""
    removed = 0
    for folder in root.glob(f"{_PREFIX}*-*"):
        process = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if process.isdigit() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _make(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=root))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
