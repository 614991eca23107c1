"""The speech API on a free port, on a store in memory unless the test gives another, with clients of every kind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from ilaas.adapters.jwt_signer import JwtSigner
from ilaas.core.enrichment.changes import SpeechLimits
from ilaas.core.enrichment.clients import ApiClient, ClientPolicy, Scope, SigningKey
from ilaas.core.enrichment.results import Enriched, Fetched, Transcribed, Translated
from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import (
    AnswerPointer,
    Choice,
    Enrichment,
    MediaInfo,
    MediaKind,
    Metadata,
    ModelChoice,
    Question,
    Sentence,
    Transcript,
)
from ilaas.http.limits import Limits
from ilaas.http.stt_api import SttApi, build_stt_app
from ilaas.http.stt_api.bodies import ParametersBody
from ilaas.http.stt_api.reading import shaped
from ilaas.ports.enrichment import JobAsk
from ilaas.ports.tenancy import AuditLine
from ilaas.services.enrichment.api_world import ApiWorld
from ilaas.services.enrichment.commands import Commands
from ilaas.services.enrichment.offers import Offers
from ilaas.services.enrichment.order_rules import Order
from ilaas.services.enrichment.tokens import ApiTokens, TokenWorld, secret_digest
from tests.support.listener import listening
from tests.support.speech_house import START_S, SpeechHouse
from tests.support.twins import House

PEPPER = b"p" * 32
SECRET = "s3cret-of-all-clients"
WORKERS = {
    "transcriber": Scope.TRANSCRIPTION_WORKER,
    "enricher": Scope.PROCESSING_WORKER,
    "translator": Scope.TRANSLATION_WORKER,
    "judge": Scope.EVALUATION_WORKER,
}
URL = "https://media.example.fr/lecture.mp4"
HOOK = "https://pod.example.fr/ai-enhancement/webhook/"
PARAMETERS = {"mediaTypes": ["cours"], "disciplines": ["physique", "histoire"]}
TRANSCRIPT = Transcript(
    language="fr",
    text=" Bonjour à tous. Voici l'énergie.",
    sentences=(
        Sentence(text=" Bonjour à tous.", start=0.0, end=2.5, extra={"no_speech_prob": 0.01}),
        Sentence(text=" Voici l'énergie.", start=2.5, end=5.0),
    ),
)


@lru_cache(maxsize=1)
def _pem() -> str:
    return asyncio.run(JwtSigner().new_key("", 0.0)).private_pem


class QuickSigner(JwtSigner):
    """All of its keys are the same: making one takes a while."""

    async def new_key(self, key_id: str, at_s: float) -> SigningKey:
        pem = await asyncio.to_thread(_pem)
        return SigningKey(id=key_id, private_pem=pem, created_at_s=at_s)


class SttWorld:
    """What a test does with it."""

    def __init__(self, house: SpeechHouse, limits: SpeechLimits, *, require_tld: bool = True) -> None:
        self.house = house
        self.store = house.store
        self.objects = house.objects
        self.signer = QuickSigner()
        self.offered: list[ModelChoice] = [ModelChoice(model="mistral"), ModelChoice(model="secret")]
        self.allowed: list[ModelChoice] = [ModelChoice(model="mistral")]
        self.open = True
        self.tokens = ApiTokens(
            TokenWorld(
                store=self.store,
                signer=self.signer,
                pepper=PEPPER,
                epoch=house.clock,
                new_id=house.new_id,
                is_open=lambda _: self.open,
            )
        )
        self.world = ApiWorld(
            store=self.store,
            objects=house.objects,
            offers=Offers(self.store, lambda client: self.allowed if client is not None else self.offered),
            limits=limits,
            epoch=house.clock,
            new_id=house.new_id,
            require_tld=require_tld,
        )
        self.app = build_stt_app(SttApi(world=self.world, tokens=self.tokens, version="0"))
        self.url = ""
        self.http: httpx.AsyncClient
        self._granted: dict[str, str] = {}

    async def add_client(
        self, name: str, scopes: Sequence[Scope] = (Scope.CLIENT,), policy: ClientPolicy | None = None
    ) -> None:
        client = ApiClient(
            id=name,
            name=name,
            organisation="univ-lille",
            project="video",
            secret_digest=secret_digest(SECRET, PEPPER),
            scopes=frozenset({Scope.DEFAULT, *scopes}),
            created_at_s=START_S,
            policy=policy or ClientPolicy(),
        )
        line = AuditLine(at_s=START_S, actor="test", action="client.created", subject=f"client:{name}")
        await self.store.add_client(client, line)

    async def token(self, name: str) -> str:
        if name not in self._granted:
            self._granted[name] = (await self.tokens.grant(name, SECRET, ())).token
        return self._granted[name]

    async def call(self, method: str, path: str, *, as_: str | None = "pod", **given: Any) -> httpx.Response:
        """One request, below `/api/v1`."""
        headers = dict(given.pop("headers", {}))
        if as_ is not None:
            headers["authorization"] = f"Bearer {await self.token(as_)}"
        return await self.http.request(method, f"/api/v1{path}", headers=headers, **given)

    async def must(self, method: str, path: str, *, as_: str | None = "pod", **given: Any) -> Any:
        """The same, which succeeds; the JSON of the answer."""
        answer = await self.call(method, path, as_=as_, **given)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def create(self, *, as_: str = "pod", **parameters: Any) -> str:
        """An enrichment by address; returns its id."""
        body = {"url": URL, "notificationWebhookUrl": HOOK, "enrichmentParameters": {**PARAMETERS, **parameters}}
        found: str = (await self.must("POST", "/enrichments/url", as_=as_, json=body))["id"]
        return found

    async def create_in(self, name: str, **parameters: Any) -> str:
        """The same without HTTP."""
        asked = shaped(ParametersBody, {**PARAMETERS, **parameters}).value()
        client = await self.store.client(name)
        return await Commands(self.world).create_by_url(client, URL, Order(parameters=asked, webhook_url=HOOK))

    # -- what a worker does ------------------------------------------------------------------------------------------

    async def fetched(self, enrichment_id: str) -> Enrichment:
        """Its media is there."""
        key = f"medias/x/{enrichment_id}/media"
        self.objects.objects[key] = b"the media's bytes"
        media = MediaInfo(
            original_file_name="lecture.mp4",
            mime_type="video/mp4",
            kind=MediaKind.VIDEO,
            object_key=key,
            size_bytes=17,
        )
        return await self._finish(Step.FETCH, enrichment_id, Fetched(media=media, duration_s=65.4))

    async def transcribed(self, enrichment_id: str) -> Enrichment:
        """And it is transcribed."""
        await self.fetched(enrichment_id)
        made = Transcribed(transcript=TRANSCRIPT, version_id=self.house.new_id())
        return await self._finish(Step.TRANSCRIPTION, enrichment_id, made)

    async def enriched(self, enrichment_id: str) -> Enrichment:
        """And there is a title, a quiz and so on."""
        await self.transcribed(enrichment_id)
        result = Enriched(metadata=METADATA, questions=(self.question(),), notes="## Notes")
        return await self._finish(Step.ENRICHMENT, enrichment_id, result)

    async def translated(self, enrichment_id: str) -> Enrichment:
        """And it is translated."""
        await self.enriched(enrichment_id)
        sentences = tuple(
            Sentence(text=f" EN{each.text}", start=each.start, end=each.end) for each in TRANSCRIPT.sentences
        )
        transcript = Transcript(language=None, text=" EN", sentences=sentences)
        return await self._finish(Step.TRANSLATION, enrichment_id, Translated(transcript=transcript, title="A title"))

    def question(self) -> Question:
        return Question(
            id=self.house.new_id(),
            question="Pourquoi ?",
            explanation="Parce que.",
            choices=(
                Choice(id=self.house.new_id(), option_text="A", correct_answer=True),
                Choice(id=self.house.new_id(), option_text="B", correct_answer=False),
            ),
            answer_pointer=AnswerPointer(start="00:00:02", stop="00:00:05"),
        )

    async def _finish(self, step: Step, enrichment_id: str, result: Any) -> Enrichment:
        ask = JobAsk(
            steps=frozenset({step}), owner="w", worker_name="the worker", at_s=self.house.clock(), lease_s=60.0
        )
        assignment = await self.store.take_job(ask)
        assert assignment is not None
        assert assignment.enrichment.id == enrichment_id
        return await self.store.finish(assignment.lease, result, self.house.clock())


METADATA = Metadata(
    title="Un titre",
    description="De quoi il s'agit.",
    topics=("énergie",),
    discipline="physique",
    media_type="cours",
)


@contextlib.asynccontextmanager
async def speaking(
    scratch: Path,
    store: Any = None,
    limits: SpeechLimits | None = None,
    *,
    require_tld: bool = True,
    **listener_limits: Any,
) -> AsyncIterator[SttWorld]:
    """Start, and end with nothing left behind."""
    house = SpeechHouse(scratch) if store is None else SpeechHouse(scratch, store=store)
    world = SttWorld(house, limits or SpeechLimits(), require_tld=require_tld)
    for name in ("pod", "nudgis"):
        await world.add_client(name)
    for name, scope in WORKERS.items():
        await world.add_client(name, (scope,))
    async with (
        listening(House(), Limits(**listener_limits), mounts={"/api": world.app}) as listener,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}", timeout=20) as http,
    ):
        world.http, world.url = http, f"http://127.0.0.1:{listener.port}/api"
        yield world
