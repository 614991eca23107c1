"""The API of remote workers: the oldest job of a step, and what came out of it. One job a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ilaas.core.enrichment.clients import SCOPE_OF_STEP
from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import Version
from ilaas.core.errors import NotFound
from ilaas.http.stt_api.answers import json_response, ok
from ilaas.http.stt_api.bodies import HandInBody
from ilaas.http.stt_api.job_views import enrichment_job, evaluation_job, transcription_job, translation_job
from ilaas.http.stt_api.operations import FILE, TEXT, UUID, Operation
from ilaas.http.stt_api.reading import (
    Form,
    content_type,
    json_object,
    json_of_field,
    list_of_field,
    path_id,
    read_body,
    read_form,
    read_json,
    shaped,
    task_id,
)
from ilaas.http.stt_api.versions import VERSION, VERSIONS
from ilaas.ports.enrichment import Assignment
from ilaas.services.enrichment.media_links import MediaLinks
from ilaas.services.enrichment.refusals import refused
from ilaas.services.enrichment.tokens import Visitor
from ilaas.services.enrichment.workers_api import HandedIn, RemoteWorkers

MEDIA_PATH = "/media"
_FILES = frozenset({"transcript", "transcriptFile"})
_JOB_QUERY = {"taskId": UUID}
_HEAD_FORM = {"taskId": UUID, "status": {**TEXT, "enum": ["OK", "KO"]}, "failureCause": TEXT}

Show = Callable[[Request, Assignment], Awaitable[dict[str, Any]]]


def worker_operations(workers: RemoteWorkers, links: MediaLinks, public_url: str | None) -> Sequence[Operation]:
    """All of them. `public_url` is where workers fetch media; None is the host that they call."""

    async def media(request: Request, assignment: Assignment) -> dict[str, Any]:
        file = assignment.enrichment.media
        if file is None:
            raise NotFound("No transcription job currently available")
        link = await links.link(file)
        if "://" not in link:
            base = public_url or str(request.base_url)
            link = f"{base.rstrip('/').removesuffix('/api')}/api{MEDIA_PATH}/{link}"
        return transcription_job(assignment.enrichment, link)

    async def enrichment(_: Request, assignment: Assignment) -> dict[str, Any]:
        return enrichment_job(assignment.enrichment, _version(assignment))

    async def translation(_: Request, assignment: Assignment) -> dict[str, Any]:
        return translation_job(assignment.enrichment, _version(assignment))

    async def evaluation(_: Request, assignment: Assignment) -> dict[str, Any]:
        return evaluation_job(assignment.enrichment, _version(assignment))

    return [
        _take(workers, Step.TRANSCRIPTION, "/v1/enrichments/transcription/job/oldest", media),
        _take(workers, Step.ENRICHMENT, "/v1/enrichments/job/ai_enrichment/oldest", enrichment),
        _take(workers, Step.TRANSLATION, "/v1/enrichments/job/translation/oldest", translation),
        _take(workers, Step.EVALUATION, "/v1/enrichments/job/ai_evaluation/oldest", evaluation),
        _hand_in(workers, Step.TRANSCRIPTION, f"{VERSIONS}/initial/transcript", _transcript_body),
        _hand_in(workers, Step.ENRICHMENT, f"{VERSION}/ai_enrichment", read_json),
        _hand_in(workers, Step.TRANSLATION, f"{VERSION}/translation", _translation_body),
        _hand_in(workers, Step.EVALUATION, f"{VERSION}/ai_evaluation", _evaluation_body),
    ]


def _take(workers: RemoteWorkers, step: Step, path: str, show: Show) -> Operation:
    async def take(request: Request, visitor: Visitor) -> Response:
        task = task_id(request.query_params.get("taskId"))
        return json_response(await show(request, await workers.take(visitor.client, step, task)))

    return Operation(
        method="GET",
        path=path,
        handler=take,
        about=f"The oldest job of the step {step}",
        scope=SCOPE_OF_STEP[step],
        tag="workers",
        query=_JOB_QUERY,
        answer="Job",
    )


def _hand_in(
    workers: RemoteWorkers, step: Step, path: str, read: Callable[[Request], Awaitable[Mapping[str, Any]]]
) -> Operation:
    of_version = "{versionId}" in path

    async def hand_in(request: Request, visitor: Visitor) -> Response:
        enrichment_id = path_id(request)
        version_id = path_id(request, "versionId") if of_version else None
        body = await read(request)
        head = shaped(HandInBody, body)
        handed = HandedIn(
            enrichment_id=enrichment_id,
            version_id=version_id,
            task_id=task_id(head.task_id),
            status=head.status,
            failure_cause=head.failure_cause,
            body=body,
        )
        made = await workers.hand_in(visitor.client, step, handed)
        return ok() if made is None else ok(id=made)

    forms = {
        Step.TRANSCRIPTION: {"transcript": FILE, **_HEAD_FORM},
        Step.TRANSLATION: {"transcriptFile": FILE, "enrichmentVersionMetadata": TEXT, **_HEAD_FORM},
    }
    return Operation(
        method="POST",
        path=path,
        handler=hand_in,
        about=f"Hand in what came out of the step {step}, or why nothing did",
        scope=SCOPE_OF_STEP[step],
        tag="workers",
        body=None if step is Step.TRANSCRIPTION else HandInBody,
        form=forms.get(step, {}),
        answer="Created" if step is Step.TRANSCRIPTION else "Ok",
    )


# -- bodies ------------------------------------------------------------------------------------------------------------


async def _transcript_body(request: Request) -> Mapping[str, Any]:
    """A form; JSON too, though no worker is known to send it."""
    if content_type(request) == "application/json":
        return json_object(await read_body(request))
    form = await read_form(request, _FILES)
    return {**_head(form), "transcript": _file(form, "transcript")}


async def _translation_body(request: Request) -> Mapping[str, Any]:
    if content_type(request) == "application/json":
        return json_object(await read_body(request))
    form = await read_form(request, _FILES)
    return {
        **_head(form),
        "transcript": _file(form, "transcriptFile") or _file(form, "transcript"),
        "enrichmentVersionMetadata": json_of_field(form.text("enrichmentVersionMetadata"), "enrichmentVersionMetadata"),
        "multipleChoiceQuestions": list_of_field(form.text("multipleChoiceQuestions"), "multipleChoiceQuestions"),
        "notes": form.text("notes"),
    }


async def _evaluation_body(request: Request) -> Mapping[str, Any]:
    """An evaluation comes as JSON in a text, and is kept as an object."""
    body = await read_json(request)
    given = body.get("evaluations")
    if not isinstance(given, list):
        return body
    return {**body, "evaluations": [_evaluation(each, at) for at, each in enumerate(given)]}


def _evaluation(raw: Any, at: int) -> Any:
    if not isinstance(raw, dict) or not isinstance(raw.get("evaluation"), str):
        return raw
    return {**raw, "evaluation": json_of_field(raw["evaluation"], f"evaluations[{at}].evaluation")}


def _head(form: Form) -> dict[str, Any]:
    return {name: form.text(name) for name in ("taskId", "status", "failureCause")}


def _file(form: Form, name: str) -> Any:
    given = form.files.get(name)
    text = given if given is not None else (form.text(name) or "").encode()
    if not text.strip():
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise refused(name, f"The file is not valid JSON ({error.msg}).") from None


def _version(assignment: Assignment) -> Version:
    if assignment.version is None:
        raise NotFound("No job currently available")
    return assignment.version
