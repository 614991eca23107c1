"""The speech service over RabbitMQ and PostgreSQL: gateways take what clients ask for, worker processes do it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ilaas.adapters.secret import load_secret
from ilaas.adapters.sql.enrichment_store import SqlEnrichmentStore
from ilaas.app.local import PrivatePostgres, PrivateRabbitMQ
from ilaas.app.local.child import Child, Program, inherited
from ilaas.core.enrichment.clients import ApiClient
from ilaas.core.enrichment.steps import Status, Step
from ilaas.ports.tenancy import AuditLine
from ilaas.services.enrichment.tokens import secret_digest
from tests.support.platform import Platform
from tests.support.stt_clients import Pod, hook
from tests.support.web import says, web

NOWHERE = "http://127.0.0.1:9"
SECRET = "s3cret-of-the-client"
SUBTITLES = b"WEBVTT\n\n00:00.000 --> 00:02.000\nBonjour.\n\n00:02.000 --> 00:04.000\nVoici la physique.\n"


class SpeechPlatform(Platform):
    """With the speech service: gateways without jobs of their own, and workers that share their folder of media."""

    def configure(self, path: Path, broker: str, slots: int = 4) -> None:
        super().configure(path, broker, slots)
        speech = (
            f"speech: {{enabled: true, jobs: 0, enrichment_model: m, objects: {self.folder / 'objects'}, lease: 2s, "
            f"allow_private_addresses: true, gateway_url: '{NOWHERE}'}}\n"
        )
        path.write_text(path.read_text() + speech)

    def start_worker(self, name: str, gateway: str) -> Child:
        """`ilaas serve --role worker`, on the configuration of all."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "secret.key").write_bytes(self.secret.read_bytes())
        (folder / "secret.key").chmod(0o600)
        config = folder / "worker.yaml"
        config.write_text(self.config.read_text().replace(NOWHERE, gateway))
        command = (sys.executable, "-m", "ilaas.cli.main", "serve", "--config", str(config), "--role", "worker")
        return Child(
            Program(
                name=name,
                command=(*command, "--metrics-port", "0", "--state-dir", str(folder), "--log-format", "json"),
                env=inherited(HOME=str(folder)),
                cwd=folder,
                log=folder / "log.jsonl",
            )
        )


@pytest.fixture
async def speaking(
    rabbitmq_server: PrivateRabbitMQ, postgres_server: PrivatePostgres, servers_folder: Path
) -> AsyncIterator[SpeechPlatform]:
    url = postgres_server.create_database("speech")
    platform = SpeechPlatform(servers_folder / "speech", rabbitmq_server, url, "speech")
    platform.server_names = ("s1",)
    try:
        await platform.start(dispatchers=1)
        yield platform
    finally:
        await platform.stop()


async def test_workers_do_what_any_gateway_took_and_one_that_is_killed_is_followed(speaking: SpeechPlatform) -> None:
    secret = load_secret(speaking.folder)
    store = SqlEnrichmentStore(speaking.store_url, secret)
    await store.open()
    client = ApiClient(
        id="pod",
        name="Pod",
        organisation="uni-a",
        project="tests",
        secret_digest=secret_digest(SECRET, secret.pepper),
    )
    await store.add_client(client, AuditLine(at_s=0.0, actor="test", action="client.created", subject="client:pod"))
    first, second = (speaking.part(name).url for name in ("g0", "g1"))
    workers = [speaking.start_worker("w0", first)]
    try:
        async with web() as page, hook() as told:
            url = page.on("/cours.vtt", says(200, SUBTITLES))
            asked = []
            pods = [Pod(f"{gateway}/api", "pod", SECRET) for gateway in (first, second)]
            for pod in pods:
                await pod.connect()
                asked.append(await pod.create_enhancement_from_url(url, told.url))
            async with asyncio.timeout(60):
                while (await store.enrichment(asked[0])).status is not Status.AI_ENRICHING:
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(workers[0].end, signal.SIGKILL, 10.0)
            workers.append(speaking.start_worker("w1", second))
            async with asyncio.timeout(90):
                while {(await store.enrichment(each)).notify.status for each in asked} != {"200"}:
                    await asyncio.sleep(0.05)
            for pod, enrichment_id in zip(
                reversed(pods), asked, strict=True
            ):  # each at the gateway that did not take it
                version = await pod.get_latest_enhancement_version(enrichment_id)
                assert version["enrichmentVersionMetadata"]["title"]
                assert version["multipleChoiceQuestions"]
                await pod.close()
            assert sorted((each["id"], each["status"]) for each in told.calls) == sorted(
                (each, "SUCCESS") for each in asked
            )
            assert await store.queued() == {}
            assert (await store.enrichment(asked[0])).times[Step.ENRICHMENT].done_by == "ilaas"
    finally:
        await store.close()
        for worker in workers:
            await asyncio.to_thread(worker.end, signal.SIGTERM, 30.0)
