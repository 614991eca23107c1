"""`ilaas sim`: a simulated inference server, to build and test against without a GPU."""

from __future__ import annotations

from typing import Annotated

import typer

from ilaas.cli.options import examples
from ilaas.core.errors import InvalidRequest

app = typer.Typer(
    name="sim",
    help="Simulated inference servers, to build and test against without a GPU.",
    epilog=examples("ilaas sim server --port 8001 --model mistral-small --preset a100"),
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Keeps `server` a command of its own."""


@app.command(
    epilog=examples(
        "ilaas sim server --port 8001 --model mistral-small --preset a100",
        "ilaas sim server --port 8002 --model m --fail 500=0.05,die_after=20:0.1,slow_first_token=3",
        "curl http://127.0.0.1:8002/sim/failures -d 'hang_after=5:x2'   # change the failures while it runs",
    )
)
def server(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8001,
    model: Annotated[list[str] | None, typer.Option(help="Served name; may be repeated. Else 'sim'.")] = None,
    preset: Annotated[
        str, typer.Option(help="Speed and size: h200, a100, l40s, workstation-ollama or slow-spot.")
    ] = "a100",
    slots: Annotated[int | None, typer.Option(min=1, help="Simultaneous sequences; else the preset's.")] = None,
    fail: Annotated[
        str, typer.Option(metavar="SPEC", help="Failures with probabilities or counts, see the examples.")
    ] = "",
    api_key: Annotated[str | None, typer.Option(help="Ask for this key under /v1.")] = None,
    site: Annotated[str, typer.Option(help="Its site, as its journal names it.")] = "local",
    seed: Annotated[int, typer.Option(help="Part of every answer; the same seed gives the same answers.")] = 0,
    reasoning_tokens: Annotated[int, typer.Option(min=0, help="Tokens of reasoning before each chat answer.")] = 0,
    embedding_dimensions: Annotated[int, typer.Option(min=1)] = 64,
) -> None:
    """Run one server with vLLM's API and a model of its batching: slots, prefill, decode, caches, failures.

    It says when a client leaves. /sim/state tells what it does, /sim/failures exchanges its failures.
    """
    from dataclasses import replace

    from ilaas.app.observe import configure_logging
    from ilaas.app.process import cannot_listen
    from ilaas.sim.params import PRESETS
    from ilaas.sim.server import SimServerOptions, serve_forever

    try:
        options = SimServerOptions(
            host=host,
            port=port,
            models=tuple(model or ("sim",)),
            engine=replace(PRESETS[preset], slots=slots) if slots and preset in PRESETS else preset,
            api_key=api_key,
            failures=fail,
            site=site,
            seed=seed,
            reasoning_tokens=reasoning_tokens,
            embedding_dimensions=embedding_dimensions,
        )
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    configure_logging(json=False)
    try:
        serve_forever(options)
    except OSError as error:
        raise cannot_listen(host, port, error) from None
