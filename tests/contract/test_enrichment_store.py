"""One suite for enrichments, their versions and what is to be removed, run on every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ilaas.adapters.store_memory_enrichment import MemoryEnrichmentStore
from ilaas.core.enrichment import orders
from ilaas.core.enrichment.changes import Change
from ilaas.core.enrichment.results import Transcribed
from ilaas.core.enrichment.steps import Status, Step
from ilaas.core.enrichment.values import (
    Enrichment,
    EnrichmentParameters,
    Retention,
    Version,
)
from ilaas.core.errors import Conflict, Forbidden, NotFound, Unprocessable
from ilaas.ports.enrichment import EnrichmentStore, ListQuery, Sort
from tests.support.enrichment import METADATA, NOW_S, PARAMETERS, RESULTS, TRANSCRIPT, media
from tests.support.enrichment_steps import BARE, ask, do, put, take

# -- the whole way -----------------------------------------------------------------------------------------------------


async def test_an_enrichment_goes_all_the_way_and_comes_back_with_everything(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    for step, expected in zip(Step, list(Status)[2::2], strict=False):
        taken = await take(enrichments, ask(at_s=NOW_S + 1))
        assert taken.lease.step is step
        assert (taken.version is None) is (step in {Step.FETCH, Step.TRANSCRIPTION})
        done = await enrichments.finish(taken.lease, RESULTS[step], NOW_S + 2)
        assert done.status is (Status.SUCCESS if step is Step.EVALUATION else expected)
        assert done == await enrichments.enrichment("e1")
    assert await enrichments.take_job(ask(at_s=NOW_S + 99)) is None
    version = await enrichments.latest_version("e1")
    assert version is not None
    assert version == await enrichments.version("e1", "v1")
    assert version.initial
    assert version.parameters == PARAMETERS
    transcript = version.transcript
    assert transcript is not None
    assert transcript.sentences == TRANSCRIPT.sentences
    assert transcript.sentences[0].extra == {
        "is_transient": False,
        "no_speech_prob": 0.25,
        "deep": {"list": [1, None, "é"]},
    }
    assert transcript.original_filename == "Leçon 1.mp3"
    assert transcript.translated_text == "Hello everybody. Energy is conserved."
    assert version.metadata == replace(
        METADATA, translated_title="Energy", translated_description="A course.", translated_topics=("energy",)
    )
    [question] = version.questions
    assert question.evaluation == {"clear": True, "marks": [1, 2.5]}
    assert [each.translated_option_text for each in question.choices] == ["It stays", None]
    assert (version.notes, version.translated_notes) == ("# Notes", "# Notes in English")
    done = await enrichments.enrichment("e1")
    assert (done.initial_version_id, done.last_version_id, done.ai_version_id) == ("v1", "v1", "v1")
    assert (done.media_duration_s, done.media_text_length, done.ai_generation_count) == (3.5, len(TRANSCRIPT.text), 1)
    assert done.times[Step.ENRICHMENT].done_by == "name of worker"
    assert done.media is not None
    assert done.media.object_key is None
    assert list(await enrichments.trash()) == ["medias/client-1/e1/1.mp3"]


# -- lists and versions ------------------------------------------------------------------------------------------------


async def test_lists_are_of_one_client_in_order_and_by_pages(enrichments: EnrichmentStore) -> None:
    for n in range(5):
        await put(enrichments, f"e{n}", created_at_s=NOW_S + n, updated_at_s=NOW_S - n)
    await put(enrichments, "foreign", client_id="client-2")
    newest = await enrichments.page("client-1", ListQuery(size=2))
    assert ([each.id for each in newest.content], newest.total) == (["e4", "e3"], 5)
    last = await enrichments.page("client-1", ListQuery(size=2, page=3))
    assert [each.id for each in last.content] == ["e0"]
    beyond = await enrichments.page("client-1", ListQuery(size=10**12, page=10**12))
    assert (list(beyond.content), beyond.total) == ([], 5)
    by_update = await enrichments.page("client-1", ListQuery(sort=Sort.UPDATED_AT, descending=False))
    assert [each.id for each in by_update.content] == ["e4", "e3", "e2", "e1", "e0"]
    taken = await take(enrichments, ask(at_s=NOW_S + 9))
    by_status = await enrichments.page("client-1", ListQuery(sort=Sort.STATUS, descending=False, size=1))
    assert by_status.content[0].status is Status.UPLOADING_MEDIA
    assert taken.enrichment.client_id in {"client-1", "client-2"}


async def test_an_end_user_finds_what_is_theirs_and_what_they_contribute_to(enrichments: EnrichmentStore) -> None:
    await put(enrichments, "own", end_user_identifier="zoé", contributors=None)
    await put(enrichments, "shared", end_user_identifier="paul", contributors=("zoé", "paul"))
    await put(enrichments, "other", end_user_identifier="paul", contributors=None)
    found = await enrichments.page("client-1", ListQuery(), end_user_identifier="zoé")
    assert {each.id for each in found.content} == {"own", "shared"}
    await enrichments.change("shared", lambda each: Change(enrichment=replace(each, contributors=None)))
    assert (await enrichments.page("client-1", ListQuery(), end_user_identifier="zoé")).total == 1


async def finished(enrichments: EnrichmentStore) -> Enrichment:
    await put(enrichments, parameters=replace(BARE, translate_to="en"))
    return await do(enrichments, Step.FETCH, Step.TRANSCRIPTION, Step.TRANSLATION)


def written(version_id: str, **changes: object) -> Version:
    whole = Version(
        id=version_id,
        enrichment_id="e1",
        created_at_s=NOW_S + 10,
        updated_at_s=NOW_S + 10,
        parameters=BARE,
        transcript=TRANSCRIPT,
        notes="by hand",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


async def test_a_version_by_hand_is_translated_when_asked_for(enrichments: EnrichmentStore) -> None:
    await finished(enrichments)
    back = await enrichments.change(
        "e1", lambda each: orders.version_added(each, written("v2"), NOW_S + 10, translate=True)
    )
    assert back.status is Status.WAITING_TRANSLATION
    taken = await take(enrichments, ask(at_s=NOW_S + 11))
    assert taken.version is not None
    assert taken.version.id == "v2"
    await enrichments.finish(taken.lease, RESULTS[Step.TRANSLATION], NOW_S + 12)
    latest = await enrichments.latest_version("e1")
    assert latest is not None
    assert (latest.id, latest.notes, latest.translated_notes) == ("v2", "by hand", "# Notes in English")
    done = await enrichments.enrichment("e1")
    assert (done.status, done.last_version_id, done.ai_version_id) == (Status.SUCCESS, "v2", "v1")


async def test_versions_are_listed_without_transcripts_and_changed_without_losing_them(
    enrichments: EnrichmentStore,
) -> None:
    await finished(enrichments)
    await enrichments.change("e1", lambda each: orders.version_added(each, written("v2"), NOW_S + 10))
    listed = await enrichments.versions("e1", ListQuery(size=2), with_transcript=False)
    assert [(each.id, each.transcript) for each in listed.content] == [("v2", None), ("v1", None)]
    bare = listed.content[0]
    changed = replace(bare, notes="better")
    await enrichments.change("e1", lambda each: orders.version_changed(each, changed, NOW_S + 20))
    kept = await enrichments.version("e1", "v2")
    assert (kept.notes, kept.transcript, kept.updated_at_s) == ("better", TRANSCRIPT, NOW_S + 20)
    whole = await enrichments.versions("e1", ListQuery(descending=False))
    assert [each.transcript is not None for each in whole.content] == [True, True]


async def test_a_version_of_another_enrichment_is_not_found(enrichments: EnrichmentStore) -> None:
    await finished(enrichments)
    await put(enrichments, "e2")
    for enrichment_id, version_id in (("e2", "v1"), ("e1", "nothing")):
        with pytest.raises(NotFound):
            await enrichments.version(enrichment_id, version_id)
        with pytest.raises(NotFound):
            await enrichments.change_version(
                enrichment_id, version_id, lambda e, v: orders.version_changed(e, v, NOW_S)
            )
    with pytest.raises(NotFound, match="No enrichment with ID 'nothing' has been found"):
        await enrichments.enrichment("nothing")


async def test_a_change_that_is_refused_writes_nothing(enrichments: EnrichmentStore) -> None:
    before = await finished(enrichments)

    def refuse(current: Enrichment, version: Version) -> Change:
        return orders.version_deleted(current, version, [], NOW_S)

    with pytest.raises(Forbidden, match="Can't delete initial version"):
        await enrichments.change_version("e1", "v1", refuse)
    assert await enrichments.enrichment("e1") == before


async def test_a_version_is_deleted_and_the_one_before_it_is_the_latest_again(enrichments: EnrichmentStore) -> None:
    await finished(enrichments)
    await enrichments.change("e1", lambda each: orders.version_added(each, written("v2"), NOW_S + 10))
    others = [each for each in (await enrichments.versions("e1", ListQuery())).content if each.id != "v2"]
    await enrichments.change_version("e1", "v2", lambda e, v: orders.version_deleted(e, v, others, NOW_S + 20))
    latest = await enrichments.latest_version("e1")
    assert latest is not None
    assert latest.id == (await enrichments.enrichment("e1")).last_version_id == "v1"


async def test_a_new_version_is_made_from_the_latest_transcript(enrichments: EnrichmentStore) -> None:
    await finished(enrichments)
    latest = await enrichments.latest_version("e1")
    assert latest is not None
    asked = EnrichmentParameters(generate_quiz=False, disciplines=("Droit",), media_types=("Cours",))
    await enrichments.change("e1", lambda each: orders.asked_again(each, latest, "v2", asked, NOW_S + 50))
    with pytest.raises(Conflict, match="Ask again when it has ended"):
        await enrichments.change("e1", lambda each: orders.asked_again(each, latest, "v3", asked, NOW_S + 51))
    taken = await take(enrichments, ask(at_s=NOW_S + 60))
    assert taken.version is not None
    assert (taken.version.id, taken.version.parameters) == ("v2", asked)
    assert taken.version.transcript is not None
    assert taken.version.transcript.translated_text is None
    done = await enrichments.finish(taken.lease, RESULTS[Step.ENRICHMENT], NOW_S + 61)
    assert (done.status, done.ai_generation_count, done.ai_version_id) == (Status.SUCCESS, 2, "v2")
    assert (await enrichments.version("e1", "v1")).transcript.translated_text is not None  # type: ignore[union-attr]


async def test_an_id_is_given_once(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    with pytest.raises(Conflict):
        await put(enrichments)


@pytest.mark.parametrize("text", ["\ud800", "a\x00b"])
async def test_a_text_that_no_database_holds_is_refused_or_kept_but_breaks_nothing(
    enrichments: EnrichmentStore, text: str
) -> None:
    if isinstance(enrichments, MemoryEnrichmentStore):
        pytest.skip("memory holds everything")
    await put(enrichments, parameters=BARE)
    await do(enrichments, Step.FETCH)
    taken = await take(enrichments)
    result = Transcribed(transcript=replace(TRANSCRIPT, text=text), version_id="v1")
    try:
        await enrichments.finish(taken.lease, result, NOW_S)
    except Unprocessable:
        assert await enrichments.latest_version("e1") is None
    else:
        assert (await enrichments.version("e1", "v1")).transcript.text == text  # type: ignore[union-attr]


# -- retention ---------------------------------------------------------------------------------------------------------


async def test_media_and_results_go_at_their_dates(enrichments: EnrichmentStore) -> None:
    await put(enrichments, parameters=BARE, retention=Retention(keep_media_s=100.0, keep_results_s=1_000.0))
    await do(enrichments, Step.FETCH, Step.TRANSCRIPTION)
    assert list(await enrichments.trash()) == []
    assert await enrichments.known_objects([media().object_key or "", "unknown"]) == {media().object_key}
    assert list(await enrichments.due_for_removal(NOW_S + 99)) == []
    [due] = await enrichments.due_for_removal(NOW_S + 100)
    assert due.id == "e1"
    await enrichments.change("e1", lambda each: orders.removed_by_date(each, NOW_S + 100))
    assert list(await enrichments.trash()) == [media().object_key]
    assert await enrichments.known_objects([media().object_key or ""]) == {media().object_key}
    await enrichments.trash_done([media().object_key or ""])
    assert list(await enrichments.trash()) == []
    assert await enrichments.known_objects([media().object_key or ""]) == frozenset()
    assert list(await enrichments.due_for_removal(NOW_S + 999)) == []
    assert await enrichments.latest_version("e1") is not None
    [due] = await enrichments.due_for_removal(NOW_S + 1_000)
    await enrichments.change(due.id, lambda each: orders.removed_by_date(each, NOW_S + 1_000))
    assert list(await enrichments.due_for_removal(NOW_S + 9_999)) == []
    assert await enrichments.latest_version("e1") is None
