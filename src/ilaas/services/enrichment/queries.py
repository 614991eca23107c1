"""What clients of the speech API read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ilaas.core.enrichment.clients import ApiClient
from ilaas.core.enrichment.languages import two_letters
from ilaas.core.enrichment.subtitles import write_srt, write_vtt
from ilaas.core.enrichment.values import Enrichment, ModelChoice, Sentence, Version
from ilaas.core.errors import StoreUnavailable
from ilaas.ports.enrichment import ListQuery, Page
from ilaas.services.enrichment.api_world import ApiWorld
from ilaas.services.enrichment.refusals import refused

_WRITERS = {"srt": write_srt, "vtt": write_vtt}


@dataclass(frozen=True, slots=True)
class Subtitles:
    """A file of subtitles."""

    name: str
    format: str
    text: str


class Queries:
    """Every method is for one client, and raises NotFound or Forbidden for what is not its own."""

    def __init__(self, world: ApiWorld) -> None:
        self._world = world

    async def enrichments(self, client: ApiClient, query: ListQuery, end_user: str | None) -> Page[Enrichment]:
        """A page of its own; of one end user where given."""
        return await self._world.store.page(client.id, query, end_user_identifier=end_user)

    async def enrichment(self, client: ApiClient, enrichment_id: str) -> Enrichment:
        """One of its own."""
        return await self._world.owned(client, enrichment_id)

    async def versions(
        self, client: ApiClient, enrichment_id: str, query: ListQuery, *, with_transcript: bool
    ) -> Page[Version]:
        """A page of versions."""
        await self._world.owned(client, enrichment_id)
        return await self._world.store.versions(enrichment_id, query, with_transcript=with_transcript)

    async def version(self, client: ApiClient, enrichment_id: str, version_id: str) -> Version:
        """One version, with its transcript."""
        return (await self._world.version(client, enrichment_id, version_id))[1]

    async def latest_version(self, client: ApiClient, enrichment_id: str) -> Version:
        """The newest version, with its transcript."""
        return (await self._world.latest(client, enrichment_id))[1]

    async def offers(self, client: ApiClient) -> Sequence[ModelChoice]:
        """Models and places that it may ask for."""
        return await self._world.offers.of(client)

    async def subtitles(
        self, client: ApiClient, enrichment_id: str, version_id: str, file_format: str, language: str | None
    ) -> Subtitles:
        """The transcript or its translation as a file. Raises Violations whose paths are `format` and `language`."""
        enrichment, version = await self._world.version(client, enrichment_id, version_id)
        writer = _WRITERS.get(file_format.lower())
        if writer is None:
            raise refused("format", "The format of a transcript is either srt or vtt")
        sentences = _in_language(version, language or None)
        name = enrichment.media.original_file_name if enrichment.media is not None else None
        stem = PurePosixPath(name or "transcript").stem or "transcript"
        return Subtitles(f"{stem}.{file_format.lower()}", file_format.lower(), writer(sentences))

    async def database_answers(self) -> bool:
        """Whether the store can be read."""
        try:
            await self._world.store.signing_keys()
        except StoreUnavailable:
            return False
        return True


def _in_language(version: Version, language: str | None) -> Sequence[Sentence]:
    transcript = version.transcript
    if transcript is None:
        return ()
    code = None if language is None else two_letters(language)
    if language is None or code in {version.parameters.language, transcript.language} - {None}:
        return transcript.sentences
    if code is not None and code == version.parameters.translate_to and transcript.translated_sentences is not None:
        return transcript.translated_sentences
    raise refused("language", f"There is no transcript in the language '{language[:20]}'")
