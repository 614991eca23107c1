"""`/enrichments/{id}/versions`: read, written by people, downloaded, judged, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ilaas.core.enrichment.clients import Scope
from ilaas.core.enrichment.values import Version
from ilaas.http.stt_api.answers import ko, ok
from ilaas.http.stt_api.bodies import (
    ChoiceThumbBody,
    EvaluationBody,
    QuestionThumbBody,
    said,
)
from ilaas.http.stt_api.enrichments import paged
from ilaas.http.stt_api.operations import BOOL, FILE, PAGE, TEXT, Operation
from ilaas.http.stt_api.reading import (
    checked_id,
    json_of_field,
    list_of_field,
    list_query,
    path_id,
    query_bool,
    read_form,
    read_json,
    shaped,
)
from ilaas.http.stt_api.views import version_view
from ilaas.services.enrichment.queries import Queries
from ilaas.services.enrichment.refusals import Violations, refused
from ilaas.services.enrichment.tokens import Visitor
from ilaas.services.enrichment.version_commands import Evaluation, Opinion, OwnVersion, VersionCommands

VERSIONS = "/v1/enrichments/{id}/versions"
VERSION = f"{VERSIONS}/{{versionId}}"
_FIRST_SIZE = 2
"""A list that is asked for without any query has two versions."""
_MEDIA_TYPES = {"srt": "application/x-subrip", "vtt": "text/vtt"}
_OWN_FORM = {
    "transcript": FILE,
    "enrichmentVersionMetadata": {**TEXT, "contentMediaType": "application/json"},
    "multipleChoiceQuestions": {**TEXT, "contentMediaType": "application/json"},
    "notes": TEXT,
    "translatedNotes": TEXT,
    "translate": BOOL,
}


def version_operations(commands: VersionCommands, queries: Queries) -> Sequence[Operation]:
    """All of them."""
    return [*_reading(queries), *_writing(commands), *_judging(commands)]


def _reading(queries: Queries) -> Sequence[Operation]:
    async def list_versions(request: Request, visitor: Visitor) -> Response:
        enrichment_id = path_id(request)
        query = list_query(request, default_size=_FIRST_SIZE, with_status=False)
        whole = query_bool(request, "withTranscript", default=True)
        page = await queries.versions(visitor.client, enrichment_id, query, with_transcript=whole)
        return paged(page, query, [version_view(each, with_transcript=whole) for each in page.content])

    async def latest(request: Request, visitor: Visitor) -> Response:
        return _shown(await queries.latest_version(visitor.client, path_id(request)))

    async def one(request: Request, visitor: Visitor) -> Response:
        return _shown(await queries.version(visitor.client, path_id(request), path_id(request, "versionId")))

    async def download(request: Request, visitor: Visitor) -> Response:
        ids = path_id(request), path_id(request, "versionId")
        asked = request.query_params
        try:
            file = await queries.subtitles(visitor.client, *ids, asked.get("format") or "srt", asked.get("language"))
        except Violations as error:
            return ko(400, [{each.path or "": each.message} for each in error.violations])
        headers = {"content-disposition": _attachment(file.name)}
        return Response(file.text, media_type=f"{_MEDIA_TYPES[file.format]}; charset=utf-8", headers=headers)

    own, tag = Scope.CLIENT, "versions"
    query = {**PAGE, "withTranscript": {**BOOL, "default": True}}
    files = {"format": {**TEXT, "enum": ["srt", "vtt"], "default": "srt"}, "language": TEXT}
    return [
        Operation(
            method="GET",
            path=VERSIONS,
            handler=list_versions,
            about="The versions of the results; two when nothing is asked",
            scope=own,
            tag=tag,
            query=query,
            answer="VersionPage",
        ),
        Operation(
            method="GET",
            path=f"{VERSIONS}/latest",
            handler=latest,
            about="The newest version",
            scope=own,
            tag=tag,
            answer="Version",
        ),
        Operation(method="GET", path=VERSION, handler=one, about="One version", scope=own, tag=tag, answer="Version"),
        Operation(
            method="GET",
            path=f"{VERSION}/download_transcript",
            handler=download,
            about="The transcript, or its translation, as subtitles",
            scope=own,
            tag=tag,
            query=files,
            answer="Subtitles",
        ),
    ]


def _writing(commands: VersionCommands) -> Sequence[Operation]:
    async def add(request: Request, visitor: Visitor) -> Response:
        enrichment_id = path_id(request)
        form = await read_form(request, frozenset({"transcript"}))
        own = OwnVersion(
            transcript=_transcript(form.files.get("transcript"), form.text("transcript")),
            metadata=json_of_field(form.text("enrichmentVersionMetadata"), "enrichmentVersionMetadata"),
            questions=list_of_field(form.text("multipleChoiceQuestions"), "multipleChoiceQuestions"),
            notes=form.text("notes"),
            translated_notes=form.text("translatedNotes"),
            translate=(form.text("translate") or "").lower() in {"1", "true", "on", "yes"},
        )
        return ok(id=await commands.add(visitor.client, enrichment_id, own))

    async def delete(request: Request, visitor: Visitor) -> Response:
        await commands.delete(visitor.client, path_id(request), path_id(request, "versionId"))
        return ok()

    own, tag = Scope.CLIENT, "versions"
    return [
        Operation(
            method="POST",
            path=VERSIONS,
            handler=add,
            about="Keep a version that a person wrote",
            scope=own,
            tag=tag,
            form=_OWN_FORM,
            answer="Created",
        ),
        Operation(
            method="DELETE",
            path=VERSION,
            handler=delete,
            about="Remove a version; the first one stays",
            scope=own,
            tag=tag,
        ),
    ]


def _judging(commands: VersionCommands) -> Sequence[Operation]:
    async def evaluate(request: Request, visitor: Visitor) -> Response:
        ids = path_id(request), path_id(request, "versionId")
        body = shaped(EvaluationBody, await read_json(request))
        return _evaluated(await commands.evaluate(visitor.client, *ids, _evaluation(body)))

    async def rate_question(request: Request, visitor: Visitor) -> Response:
        ids = path_id(request), path_id(request, "versionId")
        question_id = path_id(request, "mcqId")
        opinion = Opinion(said(shaped(QuestionThumbBody, await read_json(request))))
        return _evaluated(await commands.rate_question(visitor.client, *ids, question_id, opinion))

    async def rate_choice(request: Request, visitor: Visitor) -> Response:
        ids = path_id(request), path_id(request, "versionId")
        question_id, choice_id = path_id(request, "mcqId"), path_id(request, "choiceId")
        opinion = Opinion(said(shaped(ChoiceThumbBody, await read_json(request))))
        return _evaluated(await commands.rate_choice(visitor.client, ids, question_id, choice_id, opinion))

    own, tag, answer = Scope.CLIENT, "evaluation", "Evaluated"
    question = f"{VERSION}/mcq/{{mcqId}}"
    return [
        Operation(
            method="POST",
            path=f"{VERSION}/evaluate",
            handler=evaluate,
            about="Say what you think of a version by the machine",
            scope=own,
            tag=tag,
            body=EvaluationBody,
            answer=answer,
        ),
        Operation(
            method="POST",
            path=question,
            handler=rate_question,
            about="Say what you think of one question",
            scope=own,
            tag=tag,
            body=QuestionThumbBody,
            answer=answer,
        ),
        Operation(
            method="POST",
            path=f"{question}/choice/{{choiceId}}",
            handler=rate_choice,
            about="Say what you think of one choice",
            scope=own,
            tag=tag,
            body=ChoiceThumbBody,
            answer=answer,
        ),
    ]


def _shown(version: Version) -> Response:
    return Response(orjson.dumps(version_view(version)), media_type="application/json")


def _evaluated(version: Version) -> Response:
    return ok(enrichmentVersion=version_view(version))


def _evaluation(body: EvaluationBody) -> Evaluation:
    thumbs = body.enrichment_version_metadata
    questions = body.multiple_choice_questions or []
    return Evaluation(
        metadata={} if thumbs is None else said(thumbs),
        questions={_id(each.id): Opinion(said(each)) for each in questions},
        choices={
            (_id(each.id), _id(choice.id)): Opinion(said(choice)) for each in questions for choice in each.choices or ()
        },
    )


def _id(text: str) -> str:
    return checked_id(text, "multipleChoiceQuestions")


def _transcript(file: bytes | None, field: str | None) -> Any:
    given = file if file is not None else (field or "").encode()
    if not given.strip():
        return None
    try:
        return orjson.loads(given)
    except orjson.JSONDecodeError as error:
        raise refused("transcript", f"The transcript is not valid JSON ({error.msg}).") from None


def _attachment(name: str) -> str:
    """RFC 6266: the name in ASCII for old clients, and as it is."""
    plain = "".join(char if char.isascii() and char.isprintable() and char not in '"\\%' else "_" for char in name)
    if plain == name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=utf-8''{quote(name, safe='', errors='replace')}"
