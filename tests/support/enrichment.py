"""Values of speech and enrichment for tests, with every field set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ilaas.core.enrichment.clients import ApiClient, ClientPolicy, Scope
from ilaas.core.enrichment.results import Enriched, Evaluated, Fetched, StepResult, Transcribed, Translated
from ilaas.core.enrichment.results import TranslatedQuestion as Tr
from ilaas.core.enrichment.steps import Status, Step
from ilaas.core.enrichment.values import (
    AnswerPointer,
    Choice,
    Enrichment,
    EnrichmentParameters,
    MediaInfo,
    MediaKind,
    Metadata,
    ModelChoice,
    NotificationLevel,
    Notify,
    Question,
    Retention,
    Sentence,
    Transcript,
    Word,
)

NOW_S = 1_800_000_000.0

PARAMETERS = EnrichmentParameters(
    media_types=("Cours", "Conférence"),
    disciplines=("Physique", "Droit"),
    ai_evaluation="ChatGPT",
    ai_model="mistral",
    infrastructure="CentraleSupélec",
    language="fr",
    translate_to="en",
    generate_notes=True,
)


def enrichment(enrichment_id: str = "e1", **changes: Any) -> Enrichment:
    """One that is asked for by URL; `orders.created` puts it in line."""
    whole = Enrichment(
        id=enrichment_id,
        client_id="client-1",
        organisation="Lille",
        project="pod",
        created_at_s=NOW_S,
        updated_at_s=NOW_S,
        requested_at_s=NOW_S,
        status=Status.WAITING_MEDIA_UPLOAD,
        parameters=PARAMETERS,
        notify=Notify(url="https://pod.example.org/webhook/", level=NotificationLevel.DEFAULT),
        media_url="https://pod.example.org/media/1.mp3",
        end_user_identifier="jeanne@example.org",
        contributors=("paul@example.org",),
        wanted={Step.ENRICHMENT: ModelChoice(model="mistral", infrastructure="CentraleSupélec")},
        retention=Retention(),
    )
    return replace(whole, **changes)


def media(key: str = "medias/client-1/e1/1.mp3") -> MediaInfo:
    return MediaInfo(
        original_file_name="Leçon 1.mp3",
        mime_type="audio/mpeg",
        kind=MediaKind.AUDIO,
        object_key=key,
        size_bytes=2**33,
    )


TRANSCRIPT = Transcript(
    language="fr",
    text="Bonjour à tous. L'énergie se conserve.",
    sentences=(
        Sentence(
            text=" Bonjour à tous.",
            start=0.0,
            end=1.25,
            words=(Word(text=" Bonjour", start=0.0, end=0.5, extra={"probability": 0.5}),),
            extra={"is_transient": False, "no_speech_prob": 0.25, "deep": {"list": [1, None, "é"]}},
        ),
        Sentence(text=" L'énergie se conserve.", start=1.5, end=3.0),
    ),
)

METADATA = Metadata(
    title="L'énergie", description="Un cours.", topics=("énergie",), discipline="Physique", media_type="Cours"
)

QUESTION = Question(
    id="q1",
    question="Que fait l'énergie ?",
    explanation="Elle se conserve.",
    choices=(
        Choice(id="c1", option_text="Elle se conserve", correct_answer=True),
        Choice(id="c2", option_text="Elle se perd", correct_answer=False),
    ),
    answer_pointer=AnswerPointer(start="00:00:01", stop="00:00:03"),
)

RESULTS: dict[Step, StepResult] = {
    Step.FETCH: Fetched(media=media(), duration_s=3.5),
    Step.TRANSCRIPTION: Transcribed(transcript=TRANSCRIPT, version_id="v1"),
    Step.ENRICHMENT: Enriched(metadata=METADATA, questions=(QUESTION,), notes="# Notes"),
    Step.TRANSLATION: Translated(
        transcript=Transcript(
            language="en",
            text="Hello everybody. Energy is conserved.",
            sentences=(Sentence(text="Hello everybody.", start=0.0, end=1.25),),
        ),
        title="Energy",
        description="A course.",
        topics=("energy",),
        questions={"q1": Tr(question="What does it do?", explanation="It stays.", choices={"c1": "It stays"})},
        notes="# Notes in English",
    ),
    Step.EVALUATION: Evaluated(evaluations={"q1": {"clear": True, "marks": [1, 2.5]}}),
}
"""What a worker hands in, by the step."""


def client(client_id: str = "client-1", **changes: Any) -> ApiClient:
    whole = ApiClient(
        id=client_id,
        name=f"name of {client_id}",
        organisation="Lille",
        project="pod",
        secret_digest="$2b$12$digest",
        scopes=frozenset({Scope.DEFAULT, Scope.CLIENT, Scope.PROCESSING_WORKER}),
        created_at_s=NOW_S,
        webhook_secret="a secret",
        policy=ClientPolicy(
            forced={Step.TRANSCRIPTION: ModelChoice(model="whisper")},
            serves=ModelChoice(model="mistral"),
            treat_unspecified=False,
            keep_media_s=60.0,
            keep_results_s=3_600.0,
            max_upload_bytes=2**33,
            max_media_duration_s=0.0,
            interactive=True,
            priority=7,
        ),
    )
    return replace(whole, **changes)
