"""Builds the speech service: its stores for the gateway, and its workers, in the gateway's process or their own."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import structlog

from ilaas.adapters.addresses import check_public_url, system_resolve
from ilaas.adapters.completion_openai import OpenAiCompletion
from ilaas.adapters.gateway_calls import GatewayCalls
from ilaas.adapters.guarded_http import GuardedHttp, GuardOptions
from ilaas.adapters.media_fetch import FetchOptions, MediaFetcher
from ilaas.adapters.media_ffmpeg import Ffmpeg
from ilaas.adapters.objects_local import LocalObjects
from ilaas.adapters.objects_s3 import S3Settings, s3_objects
from ilaas.adapters.secret import load_secret
from ilaas.adapters.speech_openai import OpenAiTranscriber
from ilaas.adapters.sql.enrichment_store import SqlEnrichmentStore
from ilaas.adapters.webhook import WebhookCaller
from ilaas.app.settings import Settings
from ilaas.app.speech_settings import SpeechSettings
from ilaas.core.enrichment.changes import SpeechLimits, StepLimits
from ilaas.core.enrichment.steps import Step
from ilaas.core.ids import ENTROPY_BYTES, uuid7
from ilaas.core.values import Category
from ilaas.ports.content import ObjectStore
from ilaas.ports.enrichment import EnrichmentStore
from ilaas.ports.store import Store
from ilaas.services.administration import Administration
from ilaas.services.enrichment.context import WorkContext, WorkPolicy
from ilaas.services.enrichment.project_keys import ProjectKeys
from ilaas.services.enrichment.scratch import clear_scratch
from ilaas.services.enrichment.worker import Worker, WorkerOptions

log = structlog.get_logger(__name__)

_TALKS = (Category.GENERALIST, Category.REASONING, Category.MULTIMODAL, Category.AGENTIC)
"""Kinds of models that can enrich, the best first."""


_HEARTBEATS = 8
"""In the time of one lease."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Where the service keeps what it has: shared by the gateway's `/api` and the workers."""

    store: EnrichmentStore
    objects: ObjectStore
    limits: SpeechLimits
    jobs: dict[tuple[str, bool], int] = field(default_factory=dict)
    """How many wait for a worker, or are in hand, when last asked: by step."""

    async def count_jobs(self) -> None:
        """Ask how long the queue is. Raises StoreUnavailable."""
        counted = await self.store.queued()
        for step in Step:
            for in_hand in (False, True):
                self.jobs[step.value, in_hand] = counted.get((step, in_hand), 0)

    async def open(self) -> None:
        """Connect."""
        await self.store.open()

    async def close(self) -> None:
        """Let go of every connection."""
        await self.objects.close()
        await self.store.close()


@dataclass(frozen=True, slots=True)
class SpeechWorker:
    """A worker and the connections that it alone uses."""

    worker: Worker
    closers: tuple[Callable[[], Awaitable[None]], ...]

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`."""
        try:
            await self.worker.run(stop)
        finally:
            for close in self.closers:
                await close()


def build_speech(settings: Settings) -> Speech:
    """The stores of these settings, not opened yet."""
    speech = settings.speech
    return Speech(
        SqlEnrichmentStore(settings.database_url, load_secret(settings.state_dir)),
        _objects(settings),
        speech_limits(speech),
    )


def new_id() -> str:
    """Of an enrichment, a version, a client: sorted by time, which databases like."""
    return uuid7(time.time(), os.urandom(ENTROPY_BYTES))


def speech_limits(speech: SpeechSettings) -> SpeechLimits:
    """The limits of the service."""
    each = StepLimits(max_attempts=speech.max_attempts, timeout_s=speech.remote_timeout_s)
    return SpeechLimits(
        steps=dict.fromkeys(Step, each),
        max_media_duration_s=speech.max_duration_s,
        max_text_length=speech.max_text_chars,
        max_upload_bytes=speech.max_upload_bytes,
    )


def _objects(settings: Settings) -> ObjectStore:
    speech = settings.speech
    if speech.s3_bucket is None:
        return LocalObjects(speech.objects or settings.state_dir / "objects")
    return s3_objects(
        S3Settings(
            bucket=speech.s3_bucket,
            endpoint_url=speech.s3_endpoint_url,
            region=speech.s3_region,
            access_key_id=speech.s3_access_key_id,
            secret_access_key=speech.s3_secret_access_key,
            prefix=speech.s3_prefix,
        )
    )


def build_speech_worker(settings: Settings, speech: Speech, store: Store, gateway_url: str, jobs: int) -> SpeechWorker:
    """A worker that asks models through the gateway at that address, `jobs` media at a time."""
    given, secret = settings.speech, load_secret(settings.state_dir)
    check_url = partial(check_public_url, allow_private=settings.allow_private_addresses, resolve=system_resolve)
    administration = Administration(store, secret.pepper, time.time, secrets.token_bytes, check_url)
    calls = GatewayCalls(gateway_url, ProjectKeys(administration, secret.derived).secret_of)
    web = GuardedHttp(GuardOptions(allow_private=given.allow_private_addresses, verify_tls=given.verify_tls))
    scratch = given.scratch or settings.state_dir / "scratch"
    clear_scratch(scratch)
    for program in ("ffmpeg", "ffprobe"):
        if shutil.which(program) is None:
            log.warning("program_missing", program=program, remedy="install ffmpeg: without it every media fails")
    context = WorkContext(
        store=speech.store,
        objects=speech.objects,
        tools=Ffmpeg(),
        source=MediaFetcher(web, FetchOptions(total_s=given.fetch_timeout_s)),
        transcriber=OpenAiTranscriber(calls, given.transcription_model),
        completion=OpenAiCompletion(calls, _language_model(settings)),
        webhooks=WebhookCaller(web, time.time),
        epoch=time.time,
        new_id=new_id,
        policy=WorkPolicy(scratch_dir=scratch, limits=speech.limits, models=_models(given)),
        own_models=partial(_own_models, settings, store),
    )
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    steps = frozenset(Step[name.upper()] for name in given.steps)
    options = WorkerOptions(
        owner=owner,
        steps=steps,
        jobs=jobs,
        short_jobs=1 if jobs > 1 else 0,
        lease_s=given.lease_s,
        heartbeat_s=given.lease_s / _HEARTBEATS,
    )
    return SpeechWorker(Worker(context, options), (calls.close, web.close))


async def _own_models(settings: Settings, store: Store) -> frozenset[str]:
    """Those of the file, and those that servers were added for at run time."""
    return frozenset(model.name for model in settings.models) | {each.model for each in await store.servers()}


def _language_model(settings: Settings) -> str:
    if settings.speech.enrichment_model is not None:
        return settings.speech.enrichment_model
    names = {model.category: model.name for model in reversed(settings.models)}
    return next((names[kind] for kind in _TALKS if kind in names), "default")


def _models(speech: SpeechSettings) -> Mapping[Step, str | None]:
    return {Step.TRANSLATION: speech.translation_model, Step.EVALUATION: speech.evaluation_model}
