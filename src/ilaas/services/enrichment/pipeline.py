"""Which function does which step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from ilaas.core.enrichment.results import StepResult
from ilaas.core.enrichment.steps import Step
from ilaas.services.enrichment.context import Work
from ilaas.services.enrichment.enrich import enrich
from ilaas.services.enrichment.evaluate import evaluate
from ilaas.services.enrichment.fetch import fetch
from ilaas.services.enrichment.transcribe import transcribe
from ilaas.services.enrichment.translate import translate

STEPS: Mapping[Step, Callable[[Work], Awaitable[StepResult]]] = {
    Step.FETCH: fetch,
    Step.TRANSCRIPTION: transcribe,
    Step.ENRICHMENT: enrich,
    Step.TRANSLATION: translate,
    Step.EVALUATION: evaluate,
}


async def do_step(work: Work) -> StepResult:
    """The result of the step in hand. Raises IlaasError."""
    return await STEPS[work.step](work)
