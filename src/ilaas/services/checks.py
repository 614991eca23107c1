"""Checks of what people type: names, tokens and addresses."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from ilaas.core import keys
from ilaas.core.catalogue import ServerSpec
from ilaas.core.errors import Conflict, InvalidRequest

_MAX_NAME_CHARS = 255
_MAX_LINK_CHARS = 2000


def checked_token(token: str) -> str:
    """A token that may become a key. Raises InvalidRequest."""
    if not token or not token.isascii() or any(char.isspace() or not char.isprintable() for char in token):
        raise InvalidRequest("A token is made of ASCII characters without spaces.", param="token")
    if keys.is_mistyped(token):
        raise InvalidRequest("The token has the form of a key, but its checksum is wrong. Copy it again, whole.")
    return token


def check_names(**names: str) -> None:
    """Raises InvalidRequest for a name that can't be shown on one line, or is empty or too long."""
    for param, name in names.items():
        if not name or name != name.strip() or not name.isprintable() or len(name) > _MAX_NAME_CHARS:
            raise InvalidRequest(
                f"The {param} is a text of 1 to {_MAX_NAME_CHARS} printable characters, without spaces around it.",
                param=param,
            )


def check_link(url: str, param: str) -> None:
    """Raises InvalidRequest for what is not a plain link to a document."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or " " in url or len(url) > _MAX_LINK_CHARS:
        raise InvalidRequest(f"{param} is a link such as https://example.org/agreement.pdf.", param=param)


def base_url(url: str) -> str:
    """The address as `ServerSpec.url` wants it: without `/v1`. Raises InvalidRequest when it is no base URL."""
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InvalidRequest("The URL is one such as https://gpu1.example.org:8000.", param="url")
    if parts.username is not None or parts.query or parts.fragment:
        raise InvalidRequest("The URL holds no user, query or fragment; give the server's token apart.", param="url")
    return parts._replace(path=parts.path.rstrip("/").removesuffix("/v1").rstrip("/")).geturl()


def check_not_taken(model: str, url: str, server_id: str | None, others: Iterable[tuple[str, ServerSpec]]) -> None:
    """Raises Conflict when a server has that id, or one of the model is at that address: it would be counted twice.

    `url` is a base URL (`base_url`); `others` are servers with the names of their models.
    """
    for name, other in others:
        if other.id == server_id:
            raise Conflict(
                f"There is a server '{server_id}' already. Choose another id, or remove that one.", param="id"
            )
        if name == model and other.url == url:
            raise Conflict(f"The server '{other.id}' of '{model}' is at this address already.", param="url")


def slug(text: str) -> str:
    """Lower-case letters, digits and hyphens, for ids."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in text.lower()).split()
    return "-".join(words) or "x"
