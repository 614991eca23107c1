"""The speech API as its clients use it, for the media commands."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import httpx

from ilaas.app.run_file import public_url, read_run_file
from ilaas.cli.place import Place
from ilaas.core.errors import ConfigError, Forbidden, InvalidRequest, NotFound, StoreUnavailable, Unauthenticated

CLIENT_FILE = "stt-client.json"
"""In a state folder: an API client for the commands, as the demo makes one."""
URL, CLIENT_ID, CLIENT_SECRET = "ILAAS_STT_URL", "ILAAS_STT_CLIENT_ID", "ILAAS_STT_CLIENT_SECRET"

_KINDS: dict[int, type[InvalidRequest | Unauthenticated | Forbidden | NotFound]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
}


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API is, and as whom it is called."""

    url: str
    client_id: str
    secret: str


def find_access(place: Place, environ: Mapping[str, str] = os.environ) -> Access:
    """From the environment, else from the state folder of a gateway on this machine. Raises ConfigError."""
    kept: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads((place.state_dir / CLIENT_FILE).read_text())
    client_id, secret = (
        environ.get(CLIENT_ID) or kept.get("client_id"),
        environ.get(CLIENT_SECRET) or kept.get("secret"),
    )
    if not client_id or not secret:
        raise ConfigError(
            "No API client is given. Make one with 'ilaas stt client create', then set "
            f"{CLIENT_ID} and {CLIENT_SECRET}."
        )
    url = environ.get(URL)
    if not url:
        run = read_run_file(place.state_dir)
        if run is None:
            raise ConfigError(f"No gateway runs on the state folder '{place.state_dir}'. Set {URL} to its address.")
        url = public_url(run)
    return Access(url.rstrip("/").removesuffix("/api"), client_id, secret)


def _told(hook: str | None) -> dict[str, str]:
    """Who is notified; nobody when there is no address, since the terminal asks for itself."""
    return {"notificationLevel": "none"} if hook is None else {"notificationWebhookUrl": hook}


class MediaApi:
    """One client with a token."""

    def __init__(self, access: Access) -> None:
        self._http = httpx.Client(base_url=f"{access.url}/api", timeout=httpx.Timeout(60.0, read=600.0, write=600.0))
        self._access = access

    def __enter__(self) -> Self:
        self._login()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def _login(self) -> None:
        given = {
            "grant_type": "client_credentials",
            "client_id": self._access.client_id,
            "client_secret": self._access.secret,
        }
        token = self._checked(lambda: self._http.post("/token", data=given)).json()["access_token"]
        self._http.headers["authorization"] = f"Bearer {token}"

    def send_url(self, url: str, parameters: Mapping[str, Any], hook: str | None) -> str:
        """Let the service fetch it; returns the id."""
        body = {"url": url, **_told(hook), "enrichmentParameters": parameters}
        return str(self._json("POST", "/v1/enrichments/url", json=body)["id"])

    def send_file(self, name: str, file: BinaryIO, parameters: Mapping[str, Any], hook: str | None) -> str:
        """Upload it; returns the id."""
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        fields = {**_told(hook), "enrichmentParameters": json.dumps(parameters)}
        return str(self._json("POST", "/v1/enrichments/upload", data=fields, files={"file": (name, file, kind)})["id"])

    def enrichments(self, count: int) -> list[dict[str, Any]]:
        """The newest."""
        found: list[dict[str, Any]] = self._json("GET", "/v1/enrichments", params={"size": count})["content"]
        return found

    def enrichment(self, enrichment_id: str) -> dict[str, Any]:
        """One, with its times."""
        return self._json("GET", f"/v1/enrichments/{enrichment_id}")

    def latest(self, enrichment_id: str) -> dict[str, Any]:
        """The newest version with its transcript."""
        return self._json("GET", f"/v1/enrichments/{enrichment_id}/versions/latest")

    def subtitles(self, enrichment_id: str, version_id: str, form: str, language: str | None) -> str:
        """As SRT or VTT."""
        path = f"/v1/enrichments/{enrichment_id}/versions/{version_id}/download_transcript"
        params = {"format": form, **({"language": language} if language else {})}
        return self._checked(lambda: self._http.get(path, params=params)).text

    def delete(self, enrichment_id: str) -> None:
        """Everything of it."""
        self._json("DELETE", f"/v1/enrichments/{enrichment_id}")

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._checked(lambda: self._http.request(method, path, **options)).json()
        return found

    def _checked(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            response = ask()
        except httpx.TransportError as error:
            raise StoreUnavailable(
                f"The gateway does not answer at {self._access.url}: {type(error).__name__}. Is it running?"
            ) from None
        if response.status_code < 300:
            return response
        kind = _KINDS.get(response.status_code, InvalidRequest)
        raise kind(f"The gateway says (HTTP {response.status_code}): {_said(response)}")


def _said(response: httpx.Response) -> str:
    try:
        tree = response.json()
    except ValueError:
        return response.text.strip()[:300] or "nothing"
    if not isinstance(tree, dict):
        return str(tree)[:300]
    problems = [
        f"{each.get('path')}: {each.get('message')}" if each.get("path") else str(each.get("message"))
        for each in tree.get("errors", ())
        if isinstance(each, dict)
    ]
    return "; ".join(problems) or str(tree.get("detail") or tree.get("error_description") or tree)[:300]


def parameters_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The `enrichmentParameters` of what was asked for; nothing that is None."""
    return {name: value for name, value in values.items() if value is not None}


def is_url(source: str) -> bool:
    """Whether it is an address of the web rather than a file."""
    return source.startswith(("http://", "https://"))


def file_of(source: str) -> Path:
    """The file. Raises NotFound."""
    path = Path(source)
    if not path.is_file():
        raise NotFound(f"There is no file '{source}'.")
    return path
