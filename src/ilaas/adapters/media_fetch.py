"""Fetches media from addresses that clients gave, straight into the object store."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.message import Message
from urllib.parse import unquote, urlsplit

import structlog

from ilaas.adapters.guarded_http import BrokenOffError, GuardedAnswer, GuardedHttp, UnreachableError
from ilaas.core.errors import BodyTooLarge, InvalidRequest, MediaUnusable, UpstreamFailed
from ilaas.ports.content import ObjectStore, Upload
from ilaas.ports.media import FetchedFile

log = structlog.get_logger(__name__)

CAUSE = "Couldn't get file from URL"
"""How every failure of this step begins: clients of today's service know these words."""

_DELAYS_S = (1.0, 2.0, 4.0)
_MAX_NAME_CHARS = 200
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What a server says when trying again may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How long it may take."""

    total_s: float = 3_600.0
    """For one file, all tries together."""
    delays_s: tuple[float, ...] = _DELAYS_S
    """Before each further try."""


@dataclass(slots=True)
class _State:
    """What is known of a file while it comes."""

    name: str | None = None
    validator: str | None = None
    """With which the rest can be asked for, of the same file."""


class _AgainError(Exception):
    """Trying again may help."""


class MediaFetcher:
    """GET with retries; a broken download goes on where it broke off when the server can do that."""

    def __init__(
        self,
        http: GuardedHttp,
        options: FetchOptions | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._options = options or FetchOptions()
        self._sleep = sleep

    async def fetch(self, url: str, store: ObjectStore, key: str, *, max_bytes: int) -> FetchedFile:
        """As `ports.media.MediaSource`."""
        await store.delete(key)  # what an earlier worker left may be of another file by now
        upload = await store.resume(key, max_bytes=max_bytes)
        state = _State()
        try:
            async with asyncio.timeout(self._options.total_s):
                upload = await self._with_retries(url, store, (key, max_bytes, upload), state)
            return FetchedFile(stored=await upload.finish(), name=state.name)
        except TimeoutError:
            await upload.abort()
            raise MediaUnusable(f"{CAUSE}: it took longer than {self._options.total_s / 60:.0f} minutes.") from None
        except BaseException:
            await upload.abort()
            raise

    async def _with_retries(
        self, url: str, store: ObjectStore, place: tuple[str, int, Upload], state: _State
    ) -> Upload:
        key, max_bytes, upload = place
        for delay_s in (*self._options.delays_s, None):
            try:
                return await self._once(url, upload, state, max_bytes)
            except (UnreachableError, BrokenOffError, _AgainError) as error:
                reason = str(error)
            if delay_s is None:
                break
            log.info("fetch_retried", host=urlsplit(url).hostname, reason=reason, delay_s=delay_s)
            await self._sleep(delay_s)
            if state.validator is None and upload.size_bytes:
                await upload.abort()
                upload = await store.resume(key, max_bytes=max_bytes)
        raise UpstreamFailed(f"{CAUSE}: {reason}")

    async def _once(self, url: str, upload: Upload, state: _State, max_bytes: int) -> Upload:
        headers = {"Accept": "*/*"}
        if upload.size_bytes and state.validator:
            headers |= {"Range": f"bytes={upload.size_bytes}-", "If-Range": state.validator}
        try:
            async with self._http.send("GET", url, headers) as answer:
                if answer.status == 200 and upload.size_bytes:
                    state.validator = None  # another file by now: the next try begins anew
                _check(answer, upload)
                _check_length(answer, upload, max_bytes)
                state.name = state.name or _name(answer)
                state.validator = _validator(answer)
                expected = _length(answer)
                before = upload.size_bytes
                async for chunk in answer.body:
                    await upload.write(chunk)
        except InvalidRequest as error:
            raise MediaUnusable(f"{CAUSE}: {error.message.replace(_FIELD, 'it ', 1)}") from error
        if expected is not None and upload.size_bytes - before < expected:
            raise _AgainError("the server broke off in the middle of the file.")
        return upload

    async def close(self) -> None:
        """Let go of every connection."""
        await self._http.close()


_FIELD = "The field 'url' "


def _check(answer: GuardedAnswer, upload: Upload) -> None:
    if answer.status == (206 if upload.size_bytes else 200):
        return
    if answer.status == 200:
        raise _AgainError("the file changed while it was being fetched.")
    if answer.status in _PASSING:
        raise _AgainError(f"the server answered with HTTP status {answer.status}.")
    hint = " It must be readable without logging in." if answer.status in {401, 403} else ""
    raise MediaUnusable(f"{CAUSE}: the server answered with HTTP status {answer.status}.{hint}")


def _check_length(answer: GuardedAnswer, upload: Upload, max_bytes: int) -> None:
    length = _length(answer)
    if length is not None and upload.size_bytes + length > max_bytes:
        raise BodyTooLarge(
            f"{CAUSE}: the file has {upload.size_bytes + length} bytes, and at most {max_bytes} are taken."
        )


def _length(answer: GuardedAnswer) -> int | None:
    value = answer.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def _validator(answer: GuardedAnswer) -> str | None:
    """A strong one only: a weak tag says the same of files with other bytes (RFC 9110, 13.1.5)."""
    tag = answer.headers.get("etag", "")
    if answer.headers.get("accept-ranges", "").lower() != "bytes" and answer.status != 206:
        return None
    return tag if tag.startswith('"') else answer.headers.get("last-modified")


def _name(answer: GuardedAnswer) -> str | None:
    """The name that the server gives (RFC 6266), else the end of the address; never a path."""
    header = Message()
    header["Content-Disposition"] = answer.headers.get("content-disposition", "")
    name = header.get_filename() or unquote(urlsplit(answer.url).path.rpartition("/")[2])
    name = re.split(r"[/\\]", name)[-1]
    name = "".join(char for char in name if char.isprintable()).strip()
    return name[:_MAX_NAME_CHARS] or None
