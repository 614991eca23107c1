"""Runs a program as a subprocess with a limit of time, of memory and of what it prints, and never leaves one behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ilaas.core.errors import ConfigError

_CHUNK_BYTES = 64 * 1024
_NICENESS = 10
"""Media work makes way for the gateway's own when both run on one machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use."""

    timeout_s: float
    memory_bytes: int = 4 * 1024**3
    output_bytes: int = 16 * 1024**2
    """Of each of its two outputs; what is more is read and dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program ended."""

    code: int
    """Negative: the signal that ended it."""
    out: bytes
    err: bytes
    timed_out: bool = False


async def run(command: Sequence[str], limits: Limits) -> Ran:
    """Run it to its end. It is killed at the time limit, and when the caller is cancelled.

    Raises ConfigError when there is no such program.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise ConfigError(
            f"The program '{command[0]}' is not installed, and the speech service needs it. Install ffmpeg "
            "(Debian and Ubuntu: apt install ffmpeg)."
        ) from None
    _restrain(process.pid, limits)
    assert process.stdout is not None  # noqa: S101 -- asked for above
    assert process.stderr is not None  # noqa: S101
    timed_out = False
    readers = asyncio.gather(
        _read(process.stdout, limits.output_bytes), _read(process.stderr, limits.output_bytes), process.wait()
    )
    try:
        async with asyncio.timeout(limits.timeout_s):
            out, err, code = await readers
    except TimeoutError:
        timed_out, out, err, code = True, b"", b"", -9
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    return Ran(code=code, out=out, err=err, timed_out=timed_out)


async def _read(stream: asyncio.StreamReader, limit: int) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(_CHUNK_BYTES):
        kept += chunk[: limit - len(kept)]
    return bytes(kept)


def _restrain(pid: int, limits: Limits) -> None:
    """Lower its priority and bound its memory; a process that has ended already needs neither."""
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 -- other systems have no prlimit

        with contextlib.suppress(ProcessLookupError, PermissionError):
            resource.prlimit(pid, resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICENESS)
