"""Gives a request's sequences their time, by the engine or by a fixed pace, and counts what paced ones used."""

from __future__ import annotations

from collections.abc import Callable

from ilaas.sim.driver import EngineDriver, Listener, Pacer
from ilaas.sim.engine import Engine
from ilaas.sim.engine_events import EngineRequest, Phase
from ilaas.sim.params import EngineParams

Cancel = Callable[[], Phase | None]
"""Drops a sequence; tells where it stood, None when it is over."""


class Serving:
    """One engine, and a pacer for each gap in use."""

    def __init__(self, params: EngineParams, clock: Callable[[], float]) -> None:
        self.engine = Engine(params)
        self.driver = EngineDriver(self.engine, clock)
        self._clock = clock
        self._pacers: dict[float, Pacer] = {}
        self._paced_prompt_tokens = 0
        self._paced_tokens = 0

    @property
    def running(self) -> int:
        """Sequences that are computed."""
        return self.engine.running + sum(pacer.running for pacer in self._pacers.values())

    @property
    def waiting(self) -> int:
        """Sequences in the engine's queue."""
        return self.engine.waiting

    @property
    def prompt_tokens_total(self) -> int:
        """Prompt tokens read, ever."""
        return self.engine.prompt_tokens_total + self._paced_prompt_tokens

    @property
    def generation_tokens_total(self) -> int:
        """Tokens generated, ever."""
        return self.engine.generation_tokens_total + self._paced_tokens

    def submit(self, request: EngineRequest, listener: Listener) -> Cancel:
        """Let the engine compute it."""
        self.driver.submit(request, listener)
        return lambda: self.driver.cancel(request.id)

    def pace(self, request: EngineRequest, listener: Listener, gap_s: float) -> Cancel:
        """Give a token every `gap_s` seconds."""
        pacer = self._pacers.get(gap_s)
        if pacer is None:
            pacer = self._pacers[gap_s] = Pacer(gap_s, self._clock)
        self.count_paced(request)
        entry = pacer.submit(request.output_tokens, listener)

        def cancel() -> Phase | None:
            return Phase.DECODE if entry.cancel() else None

        return cancel

    def count_paced(self, request: EngineRequest) -> None:
        """Count the tokens of a request that the engine never sees."""
        self._paced_prompt_tokens += request.prompt_tokens
        self._paced_tokens += request.output_tokens
        self.engine.ttft.observe(0.0)

    def stop(self) -> None:
        """Forget all."""
        self.driver.stop()
        for pacer in self._pacers.values():
            pacer.stop()
