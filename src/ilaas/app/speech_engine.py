"""Runs a speech engine of this machine as a server: `ilaas stt serve`."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from ilaas.adapters.media_ffmpeg import Ffmpeg
from ilaas.adapters.speech_pocketsphinx import PocketSphinxTranscriber
from ilaas.adapters.speech_whisper import WhisperTranscriber
from ilaas.app.process import QuietServer, Run, handle_signals, listen
from ilaas.app.run_file import Address
from ilaas.app.speech_settings import EngineName
from ilaas.core.errors import ConfigError
from ilaas.http.speech_server import SpeechServer, build_speech_server
from ilaas.ports.speech import Transcriber


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What is run, and where."""

    engine: EngineName
    model: str
    weights: Path | None = None
    device: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8200


async def serve_engine(options: EngineOptions, run: Run) -> None:
    """Run until it is told to stop. Raises ConfigError when it can't start."""
    transcriber = _transcriber(options)
    handle_signals(run, None)
    with listen(options.host, options.port) as public, tempfile.TemporaryDirectory(prefix="ilaas-speech-") as folder:
        app = build_speech_server(
            SpeechServer(transcriber=transcriber, tools=Ffmpeg(), model=options.model, folder=Path(folder))
        )
        server = QuietServer(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
        address = Address(options.host, public.getsockname()[1], options.host, 0)
        run.ready(address)
        await _until_stopped(server, run, public)


async def _until_stopped(server: QuietServer, run: Run, public: socket.socket) -> None:
    serving = asyncio.create_task(server.serve(sockets=[public]))
    stop = asyncio.create_task(run.stop.wait())
    await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
    server.end()
    stop.cancel()
    await serving


def _transcriber(options: EngineOptions) -> Transcriber:
    if options.engine is EngineName.POCKETSPHINX:
        return PocketSphinxTranscriber()
    if options.weights is None:
        raise ConfigError("faster-whisper needs weights: name their folder with --weights")
    return WhisperTranscriber(options.weights, device=options.device)
