"""Addresses from which remote workers fetch media for a while: the object store's own, else one of this service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from ilaas.core.enrichment.values import MediaInfo
from ilaas.core.errors import NotFound
from ilaas.ports.content import ObjectStore
from ilaas.services.enrichment.tokens import ApiTokens

LINK_S = 6 * 3_600.0
_USE = "media"


@dataclass(frozen=True, slots=True)
class ServedMedia:
    """A file that is to be sent."""

    key: str
    name: str
    mime_type: str
    size_bytes: int


class MediaLinks:
    """Makes addresses, and finds what they are of."""

    def __init__(self, objects: ObjectStore, tokens: ApiTokens) -> None:
        self._objects = objects
        self._tokens = tokens

    async def link(self, media: MediaInfo) -> str:
        """A whole URL, or a token for the service's own address. Raises NotFound when the media is gone."""
        if media.object_key is None:
            raise NotFound("The media was removed already.")
        link = await self._objects.link(media.object_key, LINK_S)
        if link is not None:
            return link
        claims = {"key": media.object_key, "name": media.original_file_name or "media", "type": media.mime_type}
        return await self._tokens.seal(_USE, claims, LINK_S)

    async def find(self, token: str) -> ServedMedia:
        """What a token of `link` is for. Raises NotFound when it is none, ran out, or the media is gone."""
        claims = await self._tokens.claims(token, _USE)
        key = claims.get("key") if claims is not None else None
        stored = await self._objects.info(key) if isinstance(key, str) else None
        if claims is None or stored is None:
            raise NotFound("There is no media here, or not any more.")
        mime_type = claims.get("type")
        return ServedMedia(
            key=stored.key,
            name=str(claims.get("name") or "media"),
            mime_type=mime_type if isinstance(mime_type, str) else "application/octet-stream",
            size_bytes=stored.size_bytes,
        )

    def read(self, media: ServedMedia, start: int, end: int) -> AsyncIterator[bytes]:
        """Its bytes from `start` to before `end`."""
        return self._objects.read(media.key, start=start, end=end)
