"""The section of the speech service."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from ilaas.app.config_section import Section
from ilaas.app.config_types import Count, Duration, Interval, Name, Positive, Size
from ilaas.app.speech_settings import SpeechSettings


class SpeechSection(Section):
    """Transcription and enrichment of media, under `/api`."""

    TARGET = SpeechSettings
    SECRETS: ClassVar[tuple[str, ...]] = ("s3_secret_access_key",)

    enabled: bool | None = Field(None, description="Serve `/api` and work on media")
    transcription_model: Name | None = Field(None, description="Public name of a speech model")
    enrichment_model: Name | None = Field(
        None, description="Public name of a language model; else the first of category generalist"
    )
    translation_model: Name | None = Field(None, description="Else `enrichment_model`")
    evaluation_model: Name | None = Field(None, description="Else `enrichment_model`")
    jobs: Count | None = Field(
        None, description="Media that the gateway's own process works on at once; 0 leaves them to workers"
    )
    steps: list[Literal["fetch", "transcription", "enrichment", "translation", "evaluation"]] | None = Field(
        None, description="What this platform's own workers do; the rest waits for remote workers"
    )
    gateway_url: Name | None = Field(None, description="Where workers reach the gateway; else on this machine")
    public_url: Name | None = Field(None, description="Where remote workers fetch media; else the host they call")
    objects: Name | None = Field(None, description="Folder of the media; else `objects` in the state folder")
    s3_bucket: Name | None = Field(None, description="Bucket of the media, in the place of a folder")
    s3_endpoint_url: Name | None = Field(None, description="Of an S3 that is not Amazon's")
    s3_region: Name | None = Field(None, description="Of the bucket")
    s3_access_key_id: Name | None = Field(None, description="Who asks")
    s3_secret_access_key: Name | None = Field(None, description="Text, `${VAR}`, or `{file: path}`")
    s3_secret_access_key_file: Name | None = Field(None, description="The file that holds it")
    s3_prefix: Name | None = Field(None, description="Before every key in the bucket")
    scratch: Name | None = Field(
        None, description="Folder for media while ffmpeg works on them; else `scratch` in the state folder"
    )
    allow_private_addresses: bool | None = Field(
        None, description="Media and webhooks may have addresses of private networks"
    )
    verify_tls: bool | None = Field(None, description="Check the certificates of servers of media and webhooks")
    max_upload: Size | None = Field(None, description="Of one media")
    max_duration: Duration | None = Field(None, description="Of one media; 0 is no limit")
    max_text_chars: Count | None = Field(None, description="Of a transcript; 0 is no limit")
    max_attempts: Positive | None = Field(None, description="How often a step is tried before it is a FAILURE")
    lease: Interval | None = Field(None, description="A worker that is silent so long loses its step to another one")
    remote_timeout: Interval | None = Field(None, description="What a remote worker gets for one step")
    fetch_timeout: Interval | None = Field(None, description="For the download of one media")


def speech_of(section: SpeechSection | None, folder: Path, values: dict[str, object]) -> SpeechSettings:
    """The settings; folders are relative to that of the configuration file. `values` are the section's own."""
    if section is None:
        return SpeechSettings()
    folders = {name: folder / path for name in ("objects", "scratch") if (path := getattr(section, name)) is not None}
    return replace(SpeechSettings(), **{**values, **folders})
