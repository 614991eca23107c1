"""Runs a worker of the speech service, as a process of its own or beside the gateway."""

from __future__ import annotations

import asyncio

from ilaas.app.run_file import public_url, read_run_file
from ilaas.app.settings import Settings
from ilaas.app.speech_settings import SpeechSettings
from ilaas.app.speech_wiring import build_speech, build_speech_worker
from ilaas.app.wiring import open_store
from ilaas.core.errors import ConfigError


async def run_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Run one worker process until `stop`. Raises ConfigError when the service is not enabled."""
    if not settings.speech.enabled:
        raise ConfigError("the speech service is off; set 'speech: {enabled: true}' in the configuration file")
    store, speech = open_store(settings), build_speech(settings)
    await store.open()
    await speech.open()
    try:
        jobs = settings.speech.jobs or SpeechSettings().jobs
        await build_speech_worker(settings, speech, store, gateway_address(settings), jobs).run(stop)
    finally:
        await speech.close()
        await store.close()


def gateway_address(settings: Settings) -> str:
    """Where the gateway is: as configured, else as one that runs on the same state folder says, else its port."""
    if settings.speech.gateway_url is not None:
        return settings.speech.gateway_url.rstrip("/").removesuffix("/v1")
    run = read_run_file(settings.state_dir)
    return public_url(run) if run is not None else f"http://127.0.0.1:{settings.port}"
