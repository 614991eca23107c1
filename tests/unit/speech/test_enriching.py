"""What language models make of transcripts, long ones too, and what happens to their bad answers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ilaas.core.enrichment.notes import tokens_of
from ilaas.core.enrichment.quiz import seconds_of
from ilaas.core.enrichment.steps import Status
from ilaas.core.enrichment.values import Sentence, Version
from ilaas.ports.completion import CompletionTask
from ilaas.ports.media import Sound
from ilaas.services.enrichment import prompts
from ilaas.services.enrichment.prompts import prompt
from tests.support.speech_house import SpeechHouse, good_answer

HOURS_8 = 8 * 3600.0


async def a_house(tmp_path: Path, duration_s: float = 90.0, **policy: Any) -> SpeechHouse:
    house = await SpeechHouse(tmp_path, policy=policy).open()
    house.tools.probed = replace(house.tools.probed, duration_s=duration_s, sound_s=duration_s)
    house.tools.sound = Sound(duration_s=duration_s, silences=())
    return house


async def result(house: SpeechHouse, **parameters: Any) -> Version:
    asked = await house.ask(**parameters)
    async with house.working():
        done = await house.ended(asked)
    assert done.status is Status.SUCCESS, done.failure_cause
    return await house.version(done)


@pytest.mark.parametrize("window", [4_096, 8_192, 131_072])
async def test_eight_hours_fit_into_any_window(window: int, tmp_path: Path) -> None:
    house = await a_house(tmp_path, HOURS_8)
    house.completion.window = window
    version = await result(house, generate_notes=True, translate_to="en", ai_evaluation="ChatGPT")
    for task in house.completion.tasks:
        asked_for = sum(tokens_of(each.content) for each in task.messages)
        assert asked_for + (task.max_tokens or 0) <= window, task.schema_name
    assert version.metadata is not None
    assert version.metadata.title == "Un titre"
    assert len(house.completion.asked("summary")) > 1
    assert version.transcript is not None
    assert version.transcript.translated_sentences is not None
    assert len(version.transcript.translated_sentences) == len(version.transcript.sentences)


async def test_a_quiz_asks_about_the_whole_media_and_points_into_it(tmp_path: Path) -> None:
    house = await a_house(tmp_path, HOURS_8)
    house.completion.window = 16_384
    version = await result(house, generate_metadata=False)
    starts = [seconds_of(each.answer_pointer.start) for each in version.questions if each.answer_pointer]
    assert len(version.questions) == len(starts) == 10
    assert all(start is not None and 0 <= start <= HOURS_8 for start in starts)
    assert max(each or 0 for each in starts) > HOURS_8 / 2
    assert len({each.id for each in version.questions}) == 10


async def test_pointers_beyond_the_media_are_brought_back_into_it(tmp_path: Path) -> None:
    house = await a_house(tmp_path)

    def beyond(task: CompletionTask) -> str:
        tree = json.loads(good_answer(task))
        for each in tree["questions"]:
            each["answerPointer"] = {"startAnswerPointer": "02:00:00", "stopAnswerPointer": "99:99:99"}
        return json.dumps(tree)

    house.completion.answers["quiz"] = [beyond]
    version = await result(house, generate_metadata=False)
    for question in version.questions:
        assert question.answer_pointer is not None
        assert re.fullmatch(r"00:0[01]:\d\d", question.answer_pointer.stop)


async def test_a_short_media_gets_a_short_quiz(tmp_path: Path) -> None:
    version = await result(await a_house(tmp_path, 120.0), generate_metadata=False)
    assert len(version.questions) == 3


async def test_discipline_and_media_type_come_from_the_lists_or_not_at_all(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    wrong = json.dumps({"title": "T", "description": "D", "topics": [], "discipline": "alchimie", "mediaType": "cours"})
    house.completion.answers["metadata"] = [wrong] * 3
    version = await result(house, generate_quiz=False)
    assert version.metadata is not None
    assert (version.metadata.discipline, version.metadata.media_type) == (None, "cours")
    tried = house.completion.asked("metadata")
    assert len(tried) == 3
    assert "physique, histoire" in tried[1].messages[-1].content


async def test_the_model_is_told_what_is_wrong_and_may_put_it_right(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    house.completion.answers["metadata"] = ["Voici : je ne sais pas", '{"title": "T"}']
    version = await result(house, generate_quiz=False)
    assert version.metadata is not None
    first, second, third = house.completion.asked("metadata")
    assert [each.role for each in second.messages] == ["system", "user", "assistant", "user"]
    assert "JSON" in second.messages[-1].content
    assert '"topics"' in third.messages[-1].content
    assert first.schema is not None


async def test_a_model_that_never_answers_well_ends_in_failure_that_says_so(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    house.completion.answers["metadata"] = ["?"] * 99
    asked = await house.ask(generate_quiz=False)
    async with house.working():
        done = await house.ended(asked)
    assert done.status is Status.FAILURE
    assert (done.failure_cause or "").startswith("Enrichment failed: The language model gave no usable title")
    assert len(house.completion.asked("metadata")) == 3 * 4, "three answers in each of four attempts"


async def test_thoughts_and_fences_around_an_answer_do_no_harm(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    house.completion.answers["metadata"] = [lambda task: f"<think>{{hm}}</think>\n```json\n{good_answer(task)}\n```"]
    house.completion.answers["answer"] = []
    version = await result(house, generate_quiz=False)
    assert version.metadata is not None


async def test_notes_are_markdown_without_a_fence(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    house.completion.answers["notes"] = ["```markdown\n## Énergie\n\n- un point\n```"]
    version = await result(house, generate_metadata=False, generate_quiz=False, generate_notes=True)
    assert version.notes == "## Énergie\n\n- un point"


async def test_what_was_not_asked_for_is_not_made(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    version = await result(house, generate_metadata=False, generate_quiz=False)
    assert (version.metadata, version.questions, version.notes) == (None, (), None)
    assert house.completion.tasks == []


async def test_prompts_are_in_the_language_of_the_media(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    await result(house, language="fr", generate_quiz=False)
    await result(house, language="en", generate_quiz=False)
    french, english = house.completion.asked("metadata")
    assert "Écris en français" in french.messages[0].content
    assert "Write in English" in english.messages[0].content


async def test_other_languages_are_asked_for_in_english(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    await result(house, language="de", generate_quiz=False)
    assert "Write in German" in house.completion.asked("metadata")[0].messages[0].content


async def test_work_goes_to_the_batch_class_unless_the_client_is_interactive(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    await result(house, generate_quiz=False)
    billed = house.completion.tasks[0].billed
    assert (billed.organisation, billed.project, billed.interactive) == ("univ-lille", "video", False)


# -- translation -------------------------------------------------------------------------------------------------------


async def test_a_translation_keeps_the_times_and_drops_the_words(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    house.transcriber.sentences = (
        Sentence(text=" Bonjour.", start=0.5, end=1.25),
        Sentence(text=" Au revoir.", start=3.0, end=4.0),
    )
    version = await result(house, language="fr", translate_to="en", generate_quiz=False)
    assert version.transcript is not None
    assert version.transcript.translated_sentences == (
        Sentence(text="EN Bonjour.", start=0.5, end=1.25),
        Sentence(text="EN Au revoir.", start=3.0, end=4.0),
    )
    assert version.transcript.translated_text == "EN Bonjour. EN Au revoir."


async def test_missing_translations_are_asked_for_again(tmp_path: Path) -> None:
    house = await a_house(tmp_path)

    def all_but_one(task: CompletionTask) -> str:
        tree = json.loads(good_answer(task))
        return json.dumps({"translations": tree["translations"][:-1]})

    house.completion.answers["translate"] = [all_but_one]
    version = await result(house, translate_to="en", generate_quiz=False)
    assert version.transcript is not None
    assert all(each.text.startswith("EN") for each in version.transcript.translated_sentences or ())
    assert "missing for the numbers" in house.completion.asked("translate")[1].messages[-1].content


async def test_a_transcript_already_in_the_wanted_language_is_copied(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    house.transcriber.language = "en"
    version = await result(house, translate_to="en", generate_quiz=False, generate_metadata=False)
    assert version.transcript is not None
    assert version.transcript.translated_text == version.transcript.text
    assert house.completion.tasks == []


async def test_the_translator_is_asked_to_write_in_the_target_language(tmp_path: Path) -> None:
    house = await a_house(tmp_path)
    await result(house, language="fr", translate_to="en", generate_quiz=False, generate_metadata=False)
    asked = house.completion.asked("translate")[0].messages
    assert "Écris en anglais" in asked[0].content
    assert "français" in asked[1].content


# -- prompts -----------------------------------------------------------------------------------------------------------

NAMES = sorted(path.stem for path in Path(prompts.__file__).parent.glob("fr/*.md"))


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_of_a_prompt_have_a_version_and_the_same_fields(name: str) -> None:
    french, english = prompt(name, "fr"), prompt(name, "en")
    assert french.version == english.version
    fields = re.compile(r"\{\{(\w+)\}\}")
    assert sorted(fields.findall(french.text)) == sorted(fields.findall(english.text))


def test_a_value_with_braces_is_not_filled_in_itself() -> None:
    filled = prompt("summary", "en").filled(number=1, total=1, text="{{number}}")
    assert "{{number}}" in filled
