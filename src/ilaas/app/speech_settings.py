"""The speech service's settings, as one immutable value."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

MODEL = "whisper"
"""The public name of the speech model when none is named."""


class EngineName(StrEnum):
    """The engines that can be run here."""

    WHISPER = "faster-whisper"
    POCKETSPHINX = "pocketsphinx"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    """Transcription and enrichment of media under `/api`."""

    enabled: bool = False
    """Whether `/api` is served and media are worked on."""
    transcription_model: str = MODEL
    """Public name of a speech model of the federation."""
    enrichment_model: str | None = None
    """Public name of a language model; None is the first one of the configuration file."""
    translation_model: str | None = None
    """None is the enrichment model."""
    evaluation_model: str | None = None
    """None is the enrichment model."""
    jobs: int = 4
    """Media that the gateway's own process works on at the same time; 0 leaves all to `ilaas serve --role worker`."""
    steps: tuple[str, ...] = ("fetch", "transcription", "enrichment", "translation", "evaluation")
    """What the workers of this platform do; what is left out waits for remote workers."""
    gateway_url: str | None = None
    """Where workers reach the gateway; None is this machine."""
    public_url: str | None = None
    """Where remote workers fetch media from; None is the host that they call."""
    objects: Path | None = None
    """Folder of the media; None is `objects` in the state folder."""
    s3_bucket: str | None = None
    """Media lie there and not in a folder."""
    s3_endpoint_url: str | None = None
    s3_region: str | None = None
    s3_access_key_id: str | None = field(default=None, repr=False)
    s3_secret_access_key: str | None = field(default=None, repr=False)
    s3_prefix: str | None = None
    scratch: Path | None = None
    """Folder for media while ffmpeg works on them; None is `scratch` in the state folder."""
    allow_private_addresses: bool = False
    """Whether media and webhooks may have addresses of private networks or of this machine."""
    verify_tls: bool = True
    """Whether the certificates of servers of media and webhooks are checked."""
    max_upload_bytes: int = 2 * 1024**3
    max_duration_s: float = 0.0
    """Of a media. Zero: no limit."""
    max_text_chars: int = 0
    """Of a transcript. Zero: no limit."""
    max_attempts: int = 4
    """How often a step is tried before it ends in FAILURE."""
    lease_s: float = 40.0
    """A step whose worker fell silent so long ago goes to another one."""
    remote_timeout_s: float = 3_600.0
    """What a remote worker gets for one step."""
    fetch_timeout_s: float = 3_600.0
    """For the download of one media."""
