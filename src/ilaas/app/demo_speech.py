"""The demo's client of the speech API, which the media commands use: made on its first start and kept in a file."""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path

from ilaas.adapters.secret import load_secret
from ilaas.app.demo_federation import CONSUMER
from ilaas.app.settings import Settings
from ilaas.app.speech_wiring import build_speech
from ilaas.core.enrichment.clients import ApiClient
from ilaas.core.errors import NotFound
from ilaas.ports.enrichment import ClientStore
from ilaas.ports.tenancy import AuditLine
from ilaas.services.enrichment.tokens import secret_digest

CLIENT_FILE = "stt-client.json"
CLIENT_ID = "demo-video"

WELCOME = """\
Send a recording (needs ffmpeg), as the API client in {file}:
  ilaas media send lecture.mp4 --translate-to en
ESUP-Pod and Nudgis call {url}/api with the id and secret of that file.

"""


async def ensure_client(settings: Settings) -> None:
    """Make the client where it is not there yet; nothing happens when the speech service is off."""
    if not settings.speech.enabled:
        return
    secret = _kept(settings.state_dir / CLIENT_FILE) or secrets.token_hex(32)
    pepper = load_secret(settings.state_dir).pepper
    speech = build_speech(settings)
    await speech.open()
    try:
        if not await _is_there(speech.store):
            await _make(speech.store, secret_digest(secret, pepper))
    finally:
        await speech.close()
    _keep(settings.state_dir / CLIENT_FILE, secret)


async def _is_there(store: ClientStore) -> bool:
    try:
        await store.client(CLIENT_ID)
    except NotFound:
        return False
    return True


async def _make(store: ClientStore, digest: str) -> None:
    now_s = time.time()
    client = ApiClient(
        id=CLIENT_ID,
        name="demo",
        organisation=CONSUMER,
        project="teaching",
        secret_digest=digest,
        created_at_s=now_s,
    )
    line = AuditLine(
        at_s=now_s,
        actor="demo",
        action="speech_client.created",
        subject=f"speech_client:{CLIENT_ID}",
        organisation=CONSUMER,
    )
    await store.add_client(client, line)


def _kept(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text())["secret"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, secret: str) -> None:
    """Whole or not at all, readable by its owner only."""
    draft = path.with_name(path.name + ".part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"client_id": CLIENT_ID, "secret": secret}, file)
    draft.replace(path)


def welcome(settings: Settings, url: str) -> str:
    """What a newcomer needs to know of it; nothing when the service is off."""
    file = settings.state_dir / CLIENT_FILE
    return WELCOME.format(file=file, url=url) if settings.speech.enabled else ""
