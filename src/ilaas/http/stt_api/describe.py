"""The OpenAPI document of the speech API, made of its operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ilaas.core.enrichment.steps import Status
from ilaas.http.stt_api.operations import BOOL, NULLABLE_TEXT, TEXT, UUID, OpenOperation, Operation

_ABOUT = (
    "Transcription and enrichment of media. Get a token from `/api/token` with the id and secret of a client, order an "
    "enrichment, and wait for your webhook to be called."
)
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{model}"
_JSON, _PROBLEM = "application/json", "application/problem+json"
_NUMBER = {"type": ["integer", "null"]}
_TEXTS = {"type": ["array", "null"], "items": TEXT}
_DATE = {"type": ["string", "null"], "format": "date-time"}
_REFUSALS = {"400": "A value breaks a rule", "403": "Not allowed", "404": "No such thing", "413": "Too large"}
_PROBLEMS = {"415": "Another content type", "422": "A value is of another type"}


def describe(operations: Sequence[Operation | OpenOperation], version: str) -> dict[str, Any]:
    """The document."""
    bodies = {each.body for each in operations if each.body is not None}
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        if isinstance(each, Operation) or each.shown:
            paths.setdefault(f"/api{each.path}", {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ilaas speech", "version": version, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": {**_schemas(), **_of_bodies(sorted(bodies, key=lambda body: body.__name__))},
            "securitySchemes": {
                "token": {
                    "type": "oauth2",
                    "flows": {"clientCredentials": {"tokenUrl": "/api/token", "scopes": {}}},
                },
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(operation: Operation | OpenOperation) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{operation.method.lower()}{operation.path}").strip("_"),
        "summary": operation.about,
        "tags": [operation.tag],
        "responses": _responses(operation),
        "security": [],
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": UUID}
        for name in _PATH_PARAMETER.findall(operation.path)
    ]
    if isinstance(operation, Operation):
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()]
        shown["security"] = [{"token": [str(operation.scope)]}, {"bearer": []}]
    if parameters:
        shown["parameters"] = parameters
    content = _content(operation)
    if content:
        shown["requestBody"] = {"required": True, "content": content}
    return shown


def _content(operation: Operation | OpenOperation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.body is not None:
        content[_JSON] = {"schema": _ref(operation.body.__name__)}
    if operation.form:
        form = {"schema": {"type": "object", "properties": dict(operation.form)}}
        if operation.path == "/token":
            content |= {_JSON: form, "application/x-www-form-urlencoded": form}
        else:
            content["multipart/form-data"] = form
    return content


def _responses(operation: Operation | OpenOperation) -> dict[str, Any]:
    refusal = {"content": {_JSON: {"schema": _ref("Refusal")}}}
    found: dict[str, Any] = {str(operation.status): {"description": "Done", **_answer(operation.answer)}}
    if operation.path == "/token":
        error = {"content": {_JSON: {"schema": _ref("TokenError")}}}
        return found | {code: {"description": "Refused", **error} for code in ("400", "401")}
    if operation.path in {"/v1/health", "/doc.json"}:
        return found
    if isinstance(operation, Operation):
        found["401"] = {"description": "No good token", "content": {"text/plain": {"schema": TEXT}}}
    problem = {_PROBLEM: {"schema": _ref("Problem")}}
    both = {"content": {**refusal["content"], **problem}}
    found |= {
        code: {"description": said, **(both if code in {"400", "404"} else refusal)} for code, said in _REFUSALS.items()
    }
    return found | {code: {"description": said, "content": problem} for code, said in _PROBLEMS.items()}


def _answer(name: str) -> dict[str, Any]:
    if name == "Subtitles":
        return {"content": {kind: {"schema": TEXT} for kind in ("application/x-subrip", "text/vtt")}}
    return {"content": {_JSON: {"schema": _ref(name)}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(model=name)}


def _of_bodies(bodies: Sequence[type[BaseModel]]) -> dict[str, Any]:
    _, found = models_json_schema([(body, "validation") for body in bodies], ref_template=_REF)
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _page(name: str) -> dict[str, Any]:
    content = {"type": "array", "items": _ref(name)}
    number = {"type": "integer"}
    return _object(content=content, totalElements=number, currentPage=number, isLastPage=BOOL)


def _schemas() -> dict[str, Any]:
    error = {"type": "object", "properties": {"path": NULLABLE_TEXT, "message": TEXT}}
    ok = {"const": "OK"}
    choice = {"aiModel": NULLABLE_TEXT, "infrastructure": NULLABLE_TEXT}
    return {
        "Any": {"type": "object"},
        "Ok": _object(status=ok),
        "Created": {"type": "object", "required": ["status"], "properties": {"status": ok, "id": UUID}},
        "Refusal": _object(status={"const": "KO"}, errors={"type": "array", "items": error}),
        "Problem": _object(type=TEXT, title=TEXT, status={"type": "integer"}, detail=TEXT),
        "Token": _object(token_type={"const": "Bearer"}, expires_in={"type": "integer"}, access_token=TEXT),
        "TokenError": {"type": "object", "required": ["error"], "properties": {"error": TEXT, "message": TEXT}},
        "Health": _object(kernelStatus=BOOL, dbConnectionStatus=BOOL),
        "Combinations": {"type": "array", "items": _object(**choice)},
        "Enrichment": _object(
            id=UUID,
            createdAt=_DATE,
            status={"enum": [str(each) for each in Status]},
            failureCause=NULLABLE_TEXT,
            media={"type": ["object", "null"]},
            notificationStatus=NULLABLE_TEXT,
            disciplines=_TEXTS,
            mediaTypes=_TEXTS,
            notifiedAt=_DATE,
            aiEvaluation=NULLABLE_TEXT,
            endUserIdentifier=NULLABLE_TEXT,
            contributors=_TEXTS,
            **choice,
            language=NULLABLE_TEXT,
            translateTo=NULLABLE_TEXT,
            aiGenerationCount={"type": "integer"},
            mediaTextLength=_NUMBER,
            mediaDurationInSeconds=_NUMBER,
            initialVersionId=NULLABLE_TEXT,
            lastVersionId=NULLABLE_TEXT,
        ),
        "Version": _object(
            createdAt=_DATE,
            updatedAt=_DATE,
            id=UUID,
            enrichmentVersionMetadata={"type": ["object", "null"]},
            multipleChoiceQuestions={"type": "array", "items": {"type": "object"}},
            initialVersion=BOOL,
            lastEvaluationDate=_DATE,
            aiGenerated=BOOL,
            disciplines=_TEXTS,
            mediaTypes=_TEXTS,
            endUserIdentifier=NULLABLE_TEXT,
            aiEvaluation=NULLABLE_TEXT,
            **choice,
            language=NULLABLE_TEXT,
            translateTo=NULLABLE_TEXT,
            notes=NULLABLE_TEXT,
            translatedNotes=NULLABLE_TEXT,
            failureCause=NULLABLE_TEXT,
        ),
        "EnrichmentPage": _page("Enrichment"),
        "VersionPage": _page("Version"),
        "Evaluated": _object(status=ok, enrichmentVersion=_ref("Version")),
        "Job": {"type": "object", "required": ["enrichmentId"], "properties": {"enrichmentId": UUID}},
    }
