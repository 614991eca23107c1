"""Base URLs of servers as operators write them, brought into one form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseUrl:
    """A server's base URL: scheme, host in lower case, port where it is not the scheme's own, path without `/v1`."""

    url: str
    host: str
    port: int
    path: str
    remarks: tuple[str, ...] = ()
    """What was put right."""


def page_url(text: str) -> str:
    """The address of an exporter's page, `/metrics` where it has no path. Raises ValueError as `base_url` does."""
    base = base_url(text)
    return base.url if base.path else f"{base.url}/metrics"


def base_url(text: str) -> BaseUrl:
    """Read a base URL. Raises ValueError with what is wrong and the remedy, without the URL: it may hold a secret."""
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise ValueError("is not a URL; write it like https://gpu.example.fr:8000") from None
    if parts.scheme not in _PORTS:
        raise ValueError("must begin with http:// or https://; write it like https://gpu.example.fr:8000")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user name or a password; write the server's key as 'token' instead")
    if "?" in text or "#" in text:
        raise ValueError("must have no '?' and no '#'; write only the address in front of /v1")
    host = f"[{host}]" if ":" in host else host
    if not _HOST.match(host) or port == 0 or re.search(r"[\s\\]", text):
        raise ValueError("has no valid host and port; write it like https://gpu.example.fr:8000")
    path, remarks = parts.path, []
    if path.endswith("/"):
        path = path.rstrip("/")
        remarks.append("the '/' at the end of the URL is left out; remove it")
    if path.endswith("/v1"):
        path = path[:-3].rstrip("/")
        remarks.append("the URL is taken without '/v1', which requests add themselves; remove it")
    own = port or _PORTS[parts.scheme]
    address = host if own == _PORTS[parts.scheme] else f"{host}:{own}"
    return BaseUrl(url=f"{parts.scheme}://{address}{path}", host=host, port=own, path=path, remarks=tuple(remarks))


def broker_url(text: str) -> str:
    """The address of RabbitMQ. Raises ValueError as `base_url` does."""
    remedy = "write amqp://USER:PASSWORD@HOST:5672/VHOST, or amqps:// for TLS"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(f"is not a URL; {remedy}") from None
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise ValueError(f"must be the URL of RabbitMQ; {remedy}")
    return text
