"""How requests to the speech API are read: JSON, forms, and pages, with the answers that the framework would give."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from ilaas.core.errors import BodyTooLarge, InvalidRequest
from ilaas.core.forms import Field, FileBegins, FileBytes, FormParser, boundary_of
from ilaas.http.stt_api.answers import ProblemError
from ilaas.ports.enrichment import ListQuery, Sort
from ilaas.services.enrichment.refusals import refused

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Of everything but media: the transcript of a day, word by word."""
MAX_PAGE = 500
_FAR = 1_000_000
_JSON = "application/json"
_FORM = "multipart/form-data"
_TRUE = frozenset({"1", "true", "on", "yes"})
_FALSE = frozenset({"0", "false", "off", "no", ""})

M = TypeVar("M", bound=BaseModel)


def content_type(request: Request) -> str:
    """Without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The whole body. Raises BodyTooLarge."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLarge(f"The body exceeds the limit of {max_bytes} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


async def read_json(request: Request) -> dict[str, Any]:
    """A JSON object. Raises ProblemError: 415 for another type, 400 for what is no JSON, 422 for another value."""
    if content_type(request) != _JSON:
        raise ProblemError(415, f'Unsupported format, expects "json", but "{content_type(request)[:50]}" given.')
    return json_object(await read_body(request))


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in these bytes. Raises ProblemError."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ProblemError(400, 'Request payload contains invalid "json" data.') from None
    if not isinstance(found, dict):
        raise ProblemError(422, violations=[("", "This value should be of type object.")])
    return found


def shaped(model: type[M], body: Mapping[str, Any], path: str = "") -> M:
    """The body as this model; unknown fields are ignored. Raises ProblemError 422 that names each wrong type."""
    try:
        return model.model_validate(dict(body))
    except ValidationError as error:
        found = [
            (".".join([*([path] if path else []), *(str(part) for part in each["loc"])]), _type_message(dict(each)))
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise ProblemError(422, violations=found) from None


def _type_message(error: dict[str, Any]) -> str:
    return {
        "string_type": "This value should be of type string|null.",
        "bool_type": "This value should be of type bool.",
        "list_type": "This value should be of type array|null.",
        "model_type": "This value should be of type object.",
        "missing": "This value should not be blank.",
    }.get(error["type"], f"{error['msg']}.")


def json_of_field(text: str | None, path: str) -> Any:
    """What a form's field holds as JSON; empty is None. Raises Violations."""
    if text is None or not text.strip():
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise refused(path, f"This value should be valid JSON ({error.msg}).") from None


def list_of_field(text: str | None, path: str) -> Any:
    """The same, of an array that may have lost its brackets: objects with commas between. Raises Violations."""
    if text is not None and text.strip().startswith("{"):
        text = f"[{text.strip().rstrip(',')}]"
    return json_of_field(text, path)


# -- forms -------------------------------------------------------------------------------------------------------------


class Form:
    """Fields of a form by name, the last of each, and small files as bytes."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.files: dict[str, bytes] = {}

    def text(self, name: str) -> str | None:
        """A field; an empty one is None."""
        return self.fields.get(name) or None


def form_parser(request: Request, files: frozenset[str]) -> FormParser:
    """The parser of this request's form. Raises ProblemError for another content type."""
    if content_type(request) != _FORM:
        raise ProblemError(415, f'Unsupported format, expects "{_FORM}", but "{content_type(request)[:50]}" given.')
    try:
        boundary = boundary_of(request.headers["content-type"].encode("latin-1"))
    except InvalidRequest as error:
        raise ProblemError(400, error.message) from None
    return FormParser(boundary, files)


async def read_form(request: Request, files: frozenset[str]) -> Form:
    """A form with small files, or an urlencoded one. Raises ProblemError, BodyTooLarge."""
    form = Form()
    if content_type(request) == "application/x-www-form-urlencoded":
        body = await read_body(request)
        try:
            form.fields = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=100))
        except ValueError:
            raise ProblemError(400, "The form has more than 100 fields.") from None
        return form
    parser = form_parser(request, files)
    kept: dict[str, list[bytes]] = {}
    name, size = "", 0
    try:
        async for data in request.stream():
            size += len(data)
            if size > MAX_BODY_BYTES:
                raise BodyTooLarge(f"The body exceeds the limit of {MAX_BODY_BYTES} bytes.")
            for event in parser.feed(data):
                if isinstance(event, Field):
                    form.fields[event.name] = event.value.decode("utf-8", "replace")
                elif isinstance(event, FileBegins):
                    name = event.name
                    kept[name] = []
                elif isinstance(event, FileBytes):
                    kept[name].append(event.data)
        parser.finish()
    except InvalidRequest as error:
        raise ProblemError(400, error.message) from None
    form.files = {name: b"".join(chunks) for name, chunks in kept.items()}
    return form


# -- queries and paths -------------------------------------------------------------------------------------------------


def list_query(request: Request, *, default_size: int = 50, with_status: bool = True) -> ListQuery:
    """The page that is asked for. Raises Violations for a value out of its range, ProblemError 404 for a wrong type."""
    sorts = [Sort.STATUS, Sort.CREATED_AT, Sort.UPDATED_AT] if with_status else [Sort.CREATED_AT, Sort.UPDATED_AT]
    if not request.query_params:
        return ListQuery(size=default_size)
    sort = request.query_params.get("sort", Sort.CREATED_AT)
    if sort not in sorts:
        raise refused("sort", f"The sort is one of {', '.join(sorts)}")
    order = request.query_params.get("order", "desc").lower()
    if order not in {"asc", "desc"}:
        raise refused("order", "The order is either asc or desc")
    size, page = _number(request, "size", 50), _number(request, "page", 1)
    return ListQuery(sort=Sort(sort), descending=order == "desc", size=min(size, MAX_PAGE), page=min(page, _FAR))


def query_bool(request: Request, name: str, *, default: bool) -> bool:
    """A boolean as PHP reads it: `True`, `1`, `on` … Raises ProblemError 404 for anything else."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise ProblemError(404)


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        found = int(text) if text.isascii() and len(text) <= 30 else None
    except ValueError:
        found = None
    if found is None:
        raise ProblemError(404)
    if found < 1:
        raise refused(name, "This value should be positive.")
    return found


def path_id(request: Request, name: str = "id") -> str:
    """A UUID of the path, in lower case. Raises Violations."""
    return checked_id(str(request.path_params[name]), name)


def checked_id(text: str, path: str) -> str:
    """A UUID in lower case. Raises Violations."""
    try:
        found = str(uuid.UUID(text)) if len(text) == 36 else None
    except ValueError:
        found = None
    if found is None or found != text.lower():
        raise refused(path, f"'{text[:100]}' is not a valid UUID")
    return found


def task_id(text: str | None) -> str | None:
    """The id of a worker's try. Raises Violations for what is no UUID."""
    return None if not text else checked_id(text, "taskId")
