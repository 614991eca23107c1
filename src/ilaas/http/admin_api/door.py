"""What every request passes before its route: who calls, how large the body is, whether it is JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from ilaas.core.errors import BodyTooLarge, IlaasError, InvalidRequest, Unprocessable, UnsupportedMediaType
from ilaas.core.rights import Caller
from ilaas.services.governance.tokens import Tokens

MAX_BODY_BYTES = 64 * 1024
_BODY = "admin_body"
_CALLER = "admin_caller"


def caller_of(request: Request) -> Caller:
    """Who calls, as the door found."""
    caller: Caller = getattr(request.state, _CALLER)
    return caller


def body_of(request: Request) -> bytes:
    """The body as it came."""
    body: bytes = getattr(request.state, _BODY)
    return body


def guarded_route(tokens: Tokens, follow: Callable[[], Awaitable[None]]) -> type[APIRoute]:
    """The class of routes that first ask who calls, and whose changes hold in this gateway when they are answered."""

    class GuardedRoute(APIRoute):
        """A route behind the door."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """The handler, behind the door."""
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                caller = await tokens.authenticate(request.headers.get("authorization"))
                body = await _read(request)
                setattr(request.state, _CALLER, caller)
                setattr(request.state, _BODY, body)

                async def receive() -> Message:
                    return {"type": "http.request", "body": body, "more_body": False}

                try:
                    answer = await inner(Request(request.scope, receive))
                except RequestValidationError as error:
                    raise _refusal(error) from None
                except HTTPException as error:
                    if error.status_code != 400:
                        raise
                    raise InvalidRequest("The body can't be read: it is nested too deeply.") from None
                if request.method != "GET":
                    await follow()
                return answer

            return handle

    return GuardedRoute


async def _read(request: Request) -> bytes:
    """The body, whole. Raises BodyTooLarge, UnsupportedMediaType, InvalidRequest."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"The body exceeds the limit of {MAX_BODY_BYTES} bytes of the administration API.")
    if not body:
        return body
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType("Send JSON, with the header 'Content-Type: application/json'.", param="Content-Type")
    try:
        orjson.loads(body)  # stricter than what reads it later: no NaN, no lone surrogate
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error.msg} (line {error.lineno}).") from None
    return body


def _refusal(error: RequestValidationError) -> IlaasError:
    """The first thing that is wrong, by its name."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    if place and place[0] in {"query", "path", "header"}:
        place = place[1:]
    param = ".".join(place) or None
    if first["type"] == "extra_forbidden":
        return Unprocessable(f"There is no field '{param}' here, or it can't be set.", param=param)
    if first["type"] == "missing":
        return Unprocessable(f"The field '{param}' is missing." if param else "The body is missing.", param=param)
    text = str(first["msg"]).removeprefix("Value error, ")
    return Unprocessable(f"{param}: {text}." if param else f"{text}.", param=param)
