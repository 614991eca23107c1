"""What the speech service needs from outside beside models: tools for media files, the web, and clients' webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ilaas.ports.content import ObjectStore, StoredObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What a media file is, by its content and never by its name."""

    mime_type: str
    is_video: bool
    """Whether it has moving pictures; a cover picture does not count."""
    duration_s: float | None
    """Of the whole. None: the file doesn't say."""
    sound_s: float | None = None
    """Of its sound alone, which may end before the pictures. None: the file doesn't say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """The sound of a media, made ready for speech servers."""

    duration_s: float
    silences: tuple[tuple[float, float], ...]
    """Beginning and end of each, in seconds, in order."""


class MediaTools(Protocol):
    """Works on local files. Raises `MediaUnusable`, whose message a person understands."""

    async def probe(self, path: Path) -> Probed:
        """What it is; a file without sound is refused."""

    async def extract(self, source: Path, target: Path, probed: Probed) -> Sound:
        """Write its sound as FLAC, 16 kHz, one channel, on the time line of the media."""

    async def cut(self, source: Path, target: Path, span: tuple[float, float]) -> None:
        """Write the seconds of `span` of what `extract` made, as FLAC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile:
    """A file that was fetched from the web and is kept."""

    stored: StoredObject
    name: str | None
    """As the server calls it, else the end of its address."""


class MediaSource(Protocol):
    """The web."""

    async def fetch(self, url: str, store: ObjectStore, key: str, *, max_bytes: int) -> FetchedFile:
        """Keep what is at `url` under `key`.

        Raises `MediaUnusable` when it can't be had at all, `BodyTooLarge`, `UpstreamFailed` when trying again later
        may help, and what the store raises.
        """

    async def close(self) -> None:
        """Let go of every connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAnswer:
    """What became of one call."""

    status: int | None
    """Of HTTP. None: there was no answer."""
    reached: bool = True
    """False: nothing of the call can have reached the client, so that sending again is safe."""


class Webhooks(Protocol):
    """Calls addresses that clients gave."""

    async def call(self, url: str, body: bytes, *, secret: str | None) -> WebhookAnswer:
        """POST a JSON body, signed when there is a secret. Never raises for what the other side does."""

    async def close(self) -> None:
        """Let go of every connection."""
