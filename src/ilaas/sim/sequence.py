"""One request inside the engine: where it is, and what it has got so far."""

from __future__ import annotations

from ilaas.sim.engine_events import EngineRequest, Phase


class Sequence:
    """Waiting, computing its prompt, or decoding: one token for each step of the engine since it joined."""

    __slots__ = ("generated", "joined_step", "phase", "prefill_left", "request", "started", "submitted_s")

    def __init__(self, request: EngineRequest, submitted_s: float) -> None:
        self.request = request
        self.submitted_s = submitted_s
        self.phase = Phase.WAITING
        self.started = False
        self.prefill_left = 0
        self.generated = 0
        """Tokens generated when it joined the decoding ones; those since are counted by steps."""
        self.joined_step = 0

    @property
    def end_step(self) -> int:
        """The engine's step after which its answer is whole."""
        return self.joined_step + self.request.output_tokens - self.generated

    def generated_by(self, step: int) -> int:
        """Tokens generated when the engine has made so many steps."""
        return self.generated + (step - self.joined_step if self.phase is Phase.DECODE else 0)
