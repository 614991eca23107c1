"""`ilaas stt serve`: a speech engine of this machine as a server of the federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ilaas.app.speech_settings import EngineName
from ilaas.cli.options import examples


def add_to(app: typer.Typer) -> None:
    """Give `app` the command."""
    app.command(
        epilog=examples(
            "ilaas stt serve --weights /srv/whisper-large-v3-turbo --model whisper",
            "ilaas server add whisper --url http://127.0.0.1:8200 --site lille --owner univ-lille --engine openai "
            "--served-name whisper --allow-private",
        )
    )(serve)


def serve(
    *,
    engine: Annotated[EngineName, typer.Option(help="The engine; its package must be installed.")] = EngineName.WHISPER,
    weights: Annotated[Path | None, typer.Option(help="Folder of the weights, for faster-whisper.")] = None,
    model: Annotated[str, typer.Option(help="The name it answers to.")] = "whisper",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8200,
) -> None:
    """Serve /v1/audio/transcriptions with an engine of this machine, until Ctrl-C.

    Nothing is downloaded. It asks for no key: listen on an address that the gateway alone reaches.
    """
    import asyncio

    from ilaas.app.process import Run
    from ilaas.app.run_file import Address
    from ilaas.app.speech_engine import EngineOptions, serve_engine
    from ilaas.cli.output import say

    def ready(address: Address) -> None:
        say(f"Serving '{model}' at http://{address.host}:{address.port}/v1/audio/transcriptions")

    options = EngineOptions(engine=engine, model=model, weights=weights, device=device, host=host, port=port)
    asyncio.run(serve_engine(options, Run(ready=ready)))
