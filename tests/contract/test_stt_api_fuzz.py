"""Whatever comes to the speech API, of the described form or not, is never a fault of ours: no 500."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from starlette.applications import Starlette
from starlette.routing import Mount

from ilaas.core.enrichment.changes import SpeechLimits
from ilaas.core.enrichment.clients import Scope
from ilaas.core.enrichment.steps import Step
from ilaas.ports.enrichment import JobAsk
from tests.support.speech_house import SpeechHouse
from tests.support.stt_api import SttWorld

EXAMPLES = 15
"""Of each operation and kind of data."""
TASK = "0190a0b0-0000-7000-8000-00000000beef"


async def populate(world: SttWorld) -> dict[str, list[str]]:
    """Enrichments in several states, with a job of each step in the caller's hands; their ids by path parameter."""
    await world.add_client("all", list(Scope))
    ids: dict[str, list[str]] = {"id": [], "versionId": [], "mcqId": [], "choiceId": []}
    for reached in (world.fetched, world.transcribed, world.enriched, world.translated):
        enrichment_id = await world.create_in("all", language="fr", translateTo="en", aiEvaluation="ChatGPT")
        found = await reached(enrichment_id)
        ids["id"].append(enrichment_id)
        version = await world.store.latest_version(enrichment_id)
        if version is not None:
            ids["versionId"].append(version.id)
            ids["mcqId"] += [each.id for each in version.questions]
            ids["choiceId"] += [choice.id for each in version.questions for choice in each.choices]
        assert found.job is not None
        ask = JobAsk(
            steps=frozenset(Step),
            owner=f"all/{TASK}",
            worker_name="all",
            at_s=world.house.clock(),
            lease_s=1e9,
            limits=SpeechLimits(),
        )
        assert await world.store.take_job(ask)
    return ids


def test_no_request_is_answered_by_a_fault(tmp_path: Path) -> None:
    world = SttWorld(SpeechHouse(tmp_path), SpeechLimits())
    ids = asyncio.run(populate(world))
    token = asyncio.run(world.token("all"))
    schema = schemathesis.openapi.from_asgi("/api/doc.json", Starlette(routes=[Mount("/api", world.app)]))
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    seen: dict[str, set[int]] = {}

    def attack(case: Case, known: bool, data: st.DataObject) -> None:
        if known:
            for name in case.path_parameters or {}:
                case.path_parameters[name] = data.draw(st.sampled_from(ids[name]))
            if isinstance(case.body, dict) and "taskId" in case.body:
                case.body["taskId"] = TASK
        answer = case.call(headers={"authorization": f"Bearer {token}"})
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        seen.setdefault(f"{case.method} {case.path}", set()).add(answer.status_code)

    operations: list[Any] = [result.ok() for result in schema.get_all_operations()]
    for operation in sorted(operations, key=lambda each: -len(each.path) if each.method == "delete" else -1_000):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(7)
            @given(operation.as_strategy(generation_mode=mode), st.booleans(), st.data())
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def run(case: Case, known: bool, data: st.DataObject) -> None:
                attack(case, known, data)

            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that has no part
                run()
    assert len(seen) == len(operations) == 28
    assert {200, 400, 403, 404, 422} <= set().union(*seen.values())
