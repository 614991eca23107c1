"""A federation with the speech service: a simulated model that hears, one that writes, and media on the web."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ilaas.adapters.secret import load_secret
from ilaas.app.settings import Settings
from ilaas.app.speech_settings import SpeechSettings
from ilaas.app.speech_wiring import Speech, build_speech
from ilaas.core.catalogue import ModelSpec
from ilaas.core.enrichment import orders
from ilaas.core.enrichment.clients import ApiClient
from ilaas.core.enrichment.steps import Status
from ilaas.core.enrichment.values import Enrichment, EnrichmentParameters, Notify, Version
from ilaas.core.values import Category
from ilaas.ports.tenancy import AuditLine
from ilaas.services.enrichment.tokens import secret_digest
from ilaas.sim.params import PRESETS
from ilaas.sim.server import SimServerOptions
from tests.support.federation import FAST, Federation, Site, gateway, simulated
from tests.support.web import Web, says, web

SECRET = "s3cret-of-the-client"
ALL = {"translate_to": "en", "language": "fr", "generate_notes": True, "ai_evaluation": "ChatGPT"}


@dataclass
class SpeechFederation:
    """What a test does with it."""

    federation: Federation
    speech: Speech
    page: Web
    sites: dict[str, Site]
    asked: int = 0
    hooks: list[str] = field(default_factory=list)

    async def ask(self, media: Path, **parameters: Any) -> str:
        """An enrichment of a file on the web; returns its id."""
        self.asked += 1
        content = await asyncio.to_thread(media.read_bytes)
        url = self.page.on(f"/media/{self.asked}/{media.name}", says(body=content))
        return await self.ask_url(url, **parameters)

    async def ask_url(self, url: str, **parameters: Any) -> str:
        now = time.time()
        given = {"media_types": ("cours",), "disciplines": ("physique",), **parameters}
        enrichment = Enrichment(
            id=str(uuid.uuid4()),
            client_id="pod",
            organisation="uni-a",
            project="tests",
            created_at_s=now,
            updated_at_s=now,
            requested_at_s=now,
            status=Status.WAITING_MEDIA_UPLOAD,
            parameters=EnrichmentParameters(**given),
            notify=Notify(url=self.page.url("/hook")),
            media_url=url,
        )
        await self.speech.store.add(orders.created(enrichment, now))
        return enrichment.id

    async def until(self, enrichment_id: str, *statuses: Status, within_s: float = 60.0) -> Enrichment:
        """Wait for one of these."""
        async with asyncio.timeout(within_s):
            while (found := await self.speech.store.enrichment(enrichment_id)).status not in statuses:
                await asyncio.sleep(0.02)
        return found

    async def ended(self, enrichment_id: str, within_s: float = 60.0) -> Enrichment:
        return await self.until(enrichment_id, Status.SUCCESS, Status.FAILURE, within_s=within_s)

    async def version(self, enrichment_id: str) -> Version:
        found = await self.speech.store.latest_version(enrichment_id)
        assert found is not None
        return found

    @property
    def api(self) -> str:
        """Its address, as clients are configured with it; the client is `pod`."""
        return f"{self.federation.url}/api"

    def told(self) -> list[dict[str, Any]]:
        """What the webhook was told so far."""
        return [json.loads(visit.body) for visit in self.page.visits if visit.path == "/hook"]


@contextlib.asynccontextmanager
async def speech_federation(
    folder: Path, *, failures: dict[str, str] | None = None, hears: dict[str, Any] | None = None, **speech: Any
) -> AsyncIterator[SpeechFederation]:
    """A gateway in the test's own loop; `failures` by the site's name (`hears`, `writes`).

    `hears` are fields of the server that hears, in the place of the simulated one's.
    """
    faults = failures or {}
    engine = replace(PRESETS["h200"], decode_base_s=0.0005, decode_per_sequence_s=0.0)
    sites = {
        name: Site(
            name, SimServerOptions(models=(served,), engine=engine, failures=faults.get(name, "")), owner="uni-b"
        )
        for name, served in (("writes", "mistral-1"), ("hears", "whisper-1"))
    }
    sites["hears"].spec.update(hears or {})
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(simulated(list(sites.values())))
        page = await stack.enter_async_context(web())
        models = (
            ModelSpec(name="mistral", servers=(sites["writes"].server(),), context_window=32_768),
            ModelSpec(name="whisper", category=Category.TRANSCRIPTION, servers=(sites["hears"].server(),)),
        )
        given = Settings(
            state_dir=folder / "state",
            port=0,
            ops_port=0,
            models=models,
            allow_private_addresses=True,
            shutdown_grace_s=2.0,
            speech=SpeechSettings(enabled=True, **{"allow_private_addresses": True, **speech}),
            **FAST,  # type: ignore[arg-type]
        )
        running = await stack.enter_async_context(gateway(given, list(sites.values())))
        parts = build_speech(given)
        await parts.open()
        stack.push_async_callback(parts.close)
        digest = secret_digest(SECRET, load_secret(given.state_dir).pepper)
        client = ApiClient(id="pod", name="Pod", organisation="uni-a", project="tests", secret_digest=digest)
        line = AuditLine(at_s=time.time(), actor="test", action="client.created", subject="client:pod")
        await parts.store.add_client(client, line)
        page.on("/hook", says(200, b'{"status": "OK"}'))
        yield SpeechFederation(running, parts, page, sites)
