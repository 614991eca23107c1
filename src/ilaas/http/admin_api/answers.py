"""What routes answer with: pages, things with their ETag, and creations that are done once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from ilaas.http.admin_api.door import body_of, caller_of
from ilaas.services.governance.pages import MAX_PAGE, Page, PageRequest
from ilaas.services.governance.repeats import Repeats
from ilaas.services.governance.versions import etag_of
from ilaas.services.governance.views import View

T = TypeVar("T")

SECRET_TOLD = "The secret was shown when this was first answered and can't be shown again."  # a text

IfMatch = Annotated[str | None, Header(description="The ETag of the state that is changed")]


def page_request(
    cursor: Annotated[str | None, Query(max_length=2000, description="`next_cursor` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> PageRequest:
    """The page that a list's query asks for."""
    return PageRequest(cursor, limit)


def paged(page: Page[T], view: Callable[[T], View]) -> View:
    """A page as JSON."""
    return {"data": [view(each) for each in page.items], "next_cursor": page.next_cursor}


def shown(view: View, *, status: int = 200) -> Response:
    """A thing with its ETag."""
    return Response(
        orjson.dumps(view),
        status_code=status,
        media_type="application/json",
        headers={"etag": etag_of(view), "cache-control": "no-store"},
    )


@dataclass(frozen=True, slots=True)
class Made:
    """What was created, and its secret where it has one."""

    view: View
    secret: str | None = None
    more: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Further secrets, shown this once too."""


@dataclass(frozen=True, slots=True)
class Creation:
    """A request that creates something."""

    request: Request
    key: str | None
    """Its Idempotency-Key."""

    async def answer(self, repeats: Repeats, make: Callable[[], Awaitable[Made]]) -> Response:
        """201 with what was created. A repetition by the same key is answered the same, without the secret."""
        secret: str | None = None
        more: Mapping[str, str] = {}

        async def create() -> tuple[int, str]:
            nonlocal secret, more
            made = await make()
            secret, more = made.secret, made.more
            return 201, orjson.dumps({"thing": made.view, "has_secret": secret is not None}).decode()

        text = f"{self.request.method} {self.request.url.path}\n".encode() + body_of(self.request)
        status, body, repeated = await repeats.once(caller_of(self.request), self.key, text, create)
        kept: dict[str, Any] = orjson.loads(body)
        view: View = kept["thing"]
        answer = dict(view)
        if kept["has_secret"]:
            answer |= {"secret": secret, **more, "note": SECRET_TOLD if repeated else None}
        headers = {"etag": etag_of(view), "cache-control": "no-store"}
        if repeated:
            headers["idempotency-replayed"] = "true"
        return Response(orjson.dumps(answer), status_code=status, media_type="application/json", headers=headers)


def creation(
    request: Request,
    idempotency_key: Annotated[
        str | None, Header(description="Any text of at most 255 ASCII characters that this client uses once")
    ] = None,
) -> Creation:
    """The request, and the key that makes it safe to repeat."""
    return Creation(request, idempotency_key)


Creating = Annotated[Creation, Depends(creation)]
