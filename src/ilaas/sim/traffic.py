"""Everyday traffic for a demonstration: students, programmers and batch jobs, until it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from ilaas.core.values import RequestClass
from ilaas.sim.live import Player, Target
from ilaas.sim.recording import Recording
from ilaas.sim.workload import Lengths, Users, Workload


class LiveTraffic:
    """Realistic load on a running gateway. `start` and `stop` on the same event loop."""

    def __init__(self, url: str, keys: Mapping[str, str], models: Sequence[str], *, users: int = 20) -> None:
        """`keys` is each organisation's key, `models` chat models that all of them may use."""
        self._player = Player(
            Target(url=url, keys=keys), everyday(tuple(keys), tuple(models), users), seed=1, duration_s=float("inf")
        )
        self._task: asyncio.Task[Recording] | None = None

    @property
    def recording(self) -> Recording:
        """What was played so far."""
        return self._player.recording

    def start(self) -> None:
        """Begin; returns at once."""
        if self._task is None:
            self._task = asyncio.create_task(self._player.play())

    async def stop(self) -> None:
        """End all, closing every connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def everyday(organisations: tuple[str, ...], models: tuple[str, ...], users: int) -> list[Workload]:
    """Some `users` people who read what they got and sometimes press Stop, a few programmers, and batch jobs."""

    def ramp(number: int) -> tuple[tuple[float, int], ...]:
        return ((0.0, 1), (20.0, max(1, number)))

    return [
        Users(
            name="students",
            organisations=organisations,
            models=models,
            ramp=ramp(users),
            think_s=8.0,
            turns=5,
            prompt_tokens=Lengths(median=120, maximum=1_000),
            output_tokens=Lengths(median=180, maximum=800),
            system_prompt_tokens=200,
            stop_share=0.1,
        ),
        Users(
            name="programmers",
            organisations=organisations,
            models=models,
            ramp=ramp(users // 6),
            think_s=3.0,
            turns=4,
            prompt_tokens=Lengths(median=1_000, maximum=2_500),
            output_tokens=Lengths(median=300, maximum=800),
            stop_share=0.05,
        ),
        Users(
            name="batch",
            organisations=organisations[:2],
            models=models,
            ramp=((0.0, 1), (10.0, max(2, users // 2))),
            request_class=RequestClass.BATCH,
            prompt_tokens=Lengths(median=400, maximum=2_000),
            output_tokens=Lengths(median=250, maximum=800),
        ),
    ]
