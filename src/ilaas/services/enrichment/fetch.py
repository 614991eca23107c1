"""The first step: the media comes into the object store, and is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from ilaas.core.enrichment.results import Fetched
from ilaas.core.enrichment.subtitles import transcript_of_subtitles
from ilaas.core.enrichment.values import MediaInfo, MediaKind
from ilaas.core.errors import BodyTooLarge, IlaasError, InvalidRequest, MediaUnusable, NotFound
from ilaas.ports.media import Probed
from ilaas.services.enrichment.context import Work
from ilaas.services.enrichment.scratch import scratch_folder

_SUBTITLES_BYTES = 10 * 1024**2
_HEAD_BYTES = 4096


def media_key(client_id: str, enrichment_id: str) -> str:
    """Where an enrichment's media lies in the object store."""
    return f"medias/{client_id}/{enrichment_id}/media"


async def fetch(work: Work) -> Fetched:
    """Fetch the media if it was not uploaded, and find out what it is. Raises `MediaUnusable` when it is of no use."""
    media = work.enrichment.media
    if media is None or media.object_key is None:
        media = await _from_the_web(work)
        try:
            return await _looked_at(work, media)
        except IlaasError:
            await work.context.objects.delete(media.object_key or "")  # nothing refers to it yet
            raise
    stored = await work.context.objects.info(media.object_key)
    if stored is None:
        raise MediaUnusable("The uploaded file is no longer there. Send it again.")
    return await _looked_at(work, replace(media, size_bytes=stored.size_bytes))


async def _looked_at(work: Work, media: MediaInfo) -> Fetched:
    if await _is_text(work, media):
        return await _subtitles(work, media)
    async with scratch_folder(work) as folder:
        path = folder / "media"
        await download(work, media, path)
        probed = await work.context.tools.probe(path)
    kind = MediaKind.VIDEO if probed.is_video else MediaKind.AUDIO
    await check_duration(work, probed.duration_s, kind)
    return Fetched(media=replace(media, mime_type=_mime_type(media, probed), kind=kind), duration_s=probed.duration_s)


async def _from_the_web(work: Work) -> MediaInfo:
    url = work.enrichment.media_url
    if not url:
        raise MediaUnusable("The enrichment has neither a file nor an address to fetch one from.")
    key = media_key(work.enrichment.client_id, work.enrichment.id)
    max_bytes = await _max_bytes(work)
    try:
        found = await work.context.source.fetch(url, work.context.objects, key, max_bytes=max_bytes)
    except BodyTooLarge as error:
        raise MediaUnusable(
            f"The media is larger than the {max_bytes / 1e6:.0f} MB that are taken. Send a smaller file."
        ) from error
    return MediaInfo(
        original_file_name=found.name,
        mime_type=None,
        kind=MediaKind.VIDEO,
        object_key=key,
        size_bytes=found.stored.size_bytes,
    )


async def _max_bytes(work: Work) -> int:
    own = work.context.policy.limits.max_upload_bytes
    try:
        client = await work.context.store.client(work.enrichment.client_id)
    except NotFound:
        return own
    return own if client.policy.max_upload_bytes is None else client.policy.max_upload_bytes


async def check_duration(work: Work, duration_s: float | None, kind: MediaKind) -> None:
    """Raises `MediaUnusable` for a media that lasts longer than the service or the client's policy allows."""
    longest_s = work.context.policy.limits.max_media_duration_s
    try:
        client = await work.context.store.client(work.enrichment.client_id)
    except NotFound:
        pass
    else:
        if client.policy.max_media_duration_s is not None:
            longest_s = client.policy.max_media_duration_s
    if duration_s is not None and 0 < longest_s < duration_s:
        what = "Audio" if kind is MediaKind.AUDIO else "Video"
        raise MediaUnusable(
            f"{what} duration ({duration_s:.0f} s) exceeds maximum accepted media duration ({longest_s:.0f} s)"
        )


# -- the file ----------------------------------------------------------------------------------------------------------


async def download(work: Work, media: MediaInfo, path: Path) -> None:
    """Bring the media to a local file, a piece at a time. Raises `MediaUnusable` when it is gone."""
    if media.object_key is None:
        raise MediaUnusable("The media was removed already. Send it again.")
    file = await asyncio.to_thread(path.open, "wb")
    try:
        async for chunk in work.context.objects.read(media.object_key):
            await asyncio.to_thread(file.write, chunk)
    except NotFound as error:
        raise MediaUnusable("The media is no longer there. Send it again.") from error
    finally:
        await asyncio.to_thread(file.close)


async def _is_text(work: Work, media: MediaInfo) -> bool:
    if media.kind is MediaKind.SUBTITLES:
        return True
    if media.object_key is None or media.size_bytes is None or media.size_bytes > _SUBTITLES_BYTES:
        return False
    head = await _bytes(work.context.objects.read(media.object_key, end=_HEAD_BYTES)) if media.size_bytes else b""
    return head.startswith((b"WEBVTT", b"\xef\xbb\xbfWEBVTT")) or (b"-->" in head and b"\0" not in head)


async def _subtitles(work: Work, media: MediaInfo) -> Fetched:
    assert media.object_key is not None  # noqa: S101 -- looked at just before
    if (media.size_bytes or 0) > _SUBTITLES_BYTES:
        raise MediaUnusable("The subtitles are larger than any subtitles are. Send a WebVTT or SubRip file.")
    raw = await _bytes(work.context.objects.read(media.object_key))
    name = media.original_file_name
    language = work.enrichment.parameters.language or work.context.policy.language
    try:
        transcript = transcript_of_subtitles(raw.decode("utf-8-sig", "replace"), language, name)
    except InvalidRequest as error:
        raise MediaUnusable(error.message) from error
    check_text(work, transcript.text)
    mime_type = "text/vtt" if raw.lstrip(b"\xef\xbb\xbf").startswith(b"WEBVTT") else "application/x-subrip"
    media = replace(media, kind=MediaKind.SUBTITLES, mime_type=media.mime_type or mime_type)
    return Fetched(
        media=media,
        duration_s=max((each.end for each in transcript.sentences), default=None),
        transcript=transcript,
        version_id=work.context.new_id(),
    )


def check_text(work: Work, text: str) -> None:
    """Raises `MediaUnusable` for a transcript that is longer than the service allows."""
    longest = work.context.policy.limits.max_text_length
    if 0 < longest < len(text):
        # The misspelling is today's service's own, and clients show it.
        raise MediaUnusable(f"Text length ({len(text)}) exceeds maximum accepted lenght ({longest})")


async def _bytes(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


def _mime_type(media: MediaInfo, probed: Probed) -> str:
    """The content's, but the client's word for it when both say the same kind of thing."""
    told = media.mime_type
    return (
        told if told is not None and told.partition("/")[0] == probed.mime_type.partition("/")[0] else probed.mime_type
    )
