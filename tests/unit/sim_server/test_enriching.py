"""Simulated models answer the speech service's questions so that its own checks take them."""

from __future__ import annotations

from typing import Any

from ilaas.core.enrichment.quiz import checked_metadata, checked_questions
from ilaas.core.enrichment.values import EnrichmentParameters
from ilaas.services.enrichment.prompts import prompt
from ilaas.services.enrichment.schemas import (
    CRITERIA,
    EVALUATION_SCHEMA,
    TRANSLATIONS_SCHEMA,
    metadata_schema,
    quiz_schema,
)
from ilaas.sim.enriching import enrichment

TEXT = "[00:00:01] Bonjour à tous.\n[00:00:05] Nous parlons de l'énergie des ordinateurs.\n[00:01:10] Merci."


def test_metadata_is_taken() -> None:
    asked = EnrichmentParameters(disciplines=("physique",), media_types=("cours", "conférence"))
    filled = prompt("metadata", "fr").filled(text=TEXT, disciplines="physique", media_types="cours")
    answer: Any = enrichment(metadata_schema(asked.disciplines or (), asked.media_types or ()), filled)
    metadata = checked_metadata(answer, asked)
    assert metadata.title is not None
    assert metadata.title.startswith("Bonjour à tous")
    assert (metadata.discipline, metadata.media_type) == ("physique", "cours")
    assert "ordinateurs" in metadata.topics


def test_a_quiz_is_taken_and_points_to_times_of_the_transcript() -> None:
    answer: Any = enrichment(quiz_schema(3), prompt("quiz", "fr").filled(count=3, text=TEXT))
    questions = checked_questions(answer, (1.0, 75.0), lambda: "id")
    pointers = [each.answer_pointer.start for each in questions if each.answer_pointer is not None]
    assert pointers == ["00:00:01", "00:00:05", "00:01:10"]


def test_every_text_is_translated_under_its_number() -> None:
    filled = prompt("translate", "fr").filled(source="français", target="anglais", texts="0: Bonjour.\n1: Merci.")
    answer: Any = enrichment(TRANSLATIONS_SCHEMA, filled)
    assert [each["id"] for each in answer["translations"]] == [0, 1]
    assert answer["translations"][1]["text"].endswith("Merci.")


def test_questions_are_judged_by_all_criteria() -> None:
    assert enrichment(EVALUATION_SCHEMA, "…") == dict.fromkeys(CRITERIA, True)


def test_other_schemas_are_left_alone() -> None:
    assert enrichment({"type": "object", "properties": {"answer": {"type": "string"}}}, "…") is None
    assert enrichment({"type": "string"}, "…") is None
