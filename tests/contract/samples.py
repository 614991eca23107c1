"""Values for the contract tests, with every field set."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from ilaas.core.catalogue import ServerSpec
from ilaas.core.quota.limits import Limits
from ilaas.core.tenancy import Key, Organisation
from ilaas.core.usage import UsageRecord
from ilaas.core.values import Engine, Outcome, RequestClass, RoutingMode
from ilaas.ports.store import AuditLine, StoredServer

LILLE = Organisation(name="Université de Lille", weight=2.5, contributor=False, limits=Limits(tokens_per_day=1000))


def line(action: str = "tested", at_s: float = 1_800_000_000.0) -> AuditLine:
    return AuditLine(at_s=at_s, actor="tester", action=action, subject="subject", before=None, after='{"é":1}')


def key(key_id: str = "key_1", **changes: Any) -> Key:
    whole = Key(
        id=key_id,
        digest=hashlib.blake2b(key_id.encode(), digest_size=32).digest(),
        hint="ilaas-Ab12…",
        name=f"name of {key_id}",
        organisation=LILLE.name,
        project="linguistique",
        priority=3,
        routing_mode=RoutingMode.PRIVATE_FIRST,
        classes=frozenset({RequestClass.BATCH}),
        models=frozenset({"mistral", "llama"}),
        created_at_s=1_799_000_000.25,
        expires_at_s=1_900_000_000.5,
        limits=Limits(requests_per_minute=60, budget_micro_eur_per_month=2**40),
        chat_client=True,
        threshold=12,
    )
    return replace(whole, **changes)


def server(server_id: str = "lyon-1", **changes: Any) -> StoredServer:
    spec = ServerSpec(
        id=server_id,
        url="https://gpu.example.org:8000",
        site="lyon",
        owner=LILLE.name,
        served_name="mistralai/Mistral",
        engine=Engine.OLLAMA,
        token="the token of that server",
        max_parallel_requests=8,
        owner_reserved=2,
        context_window=32_768,
        quantisation="fp8",
        spot=True,
        from_file=False,
    )
    return StoredServer(model="mistral", spec=replace(spec, **changes))


def record(number: int = 1, **changes: Any) -> UsageRecord:
    whole = UsageRecord(
        id=f"request-{number}",
        finished_at_ms=1_800_000_000_123 + number,
        organisation=LILLE.name,
        project="linguistique",
        key_id="key_1",
        endpoint="/v1/chat/completions",
        model="mistral",
        server="lyon-1",
        site="lyon",
        owner="Université de Lyon",
        request_class=RequestClass.OWNER,
        routing_mode=RoutingMode.PRIVATE_FIRST,
        priority=-2,
        outcome=Outcome.CLIENT_LEFT_DECODE,
        status=200,
        streamed=True,
        attempts=2,
        prompt_tokens=2**40,
        completion_tokens=17,
        cached_tokens=5,
        reasoning_tokens=4,
        audio_ms=0,
        estimated=False,
        queue_ms=12,
        ttft_ms=34,
        duration_ms=5678,
    )
    return replace(whole, **changes)
