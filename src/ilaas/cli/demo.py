"""`ilaas demo`: a whole federation on this machine, ready to call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.options import examples

if TYPE_CHECKING:
    from ilaas.app.demo import Demo

DEMO_DIR = Path(".ilaas/demo")
DISTRIBUTED_DIR = Path(".ilaas/distributed")


def add_to(app: typer.Typer) -> None:
    """Give `app` the command."""
    app.command(
        epilog=examples(
            "ilaas demo",
            "ilaas demo --traffic --port 8010",
            "ilaas demo --fresh --plain",
            "ilaas demo --distributed --traffic",
        )
    )(demo)


def demo(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the gateway, 8000 if not given; 0 takes a free one.")
    ] = None,
    *,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: remove the demo's state first.")] = False,
    traffic: Annotated[bool, typer.Option("--traffic", help="Add realistic load.")] = False,
    users: Annotated[int, typer.Option(min=1, max=500, help="People in that load.")] = 40,
    state_dir: Annotated[
        Path | None,
        typer.Option(help=f"Where all is kept; {DEMO_DIR}, or {DISTRIBUTED_DIR}, if not given."),
    ] = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Several processes, over RabbitMQ and PostgreSQL, behind HAProxy.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live view.")] = False,
) -> None:
    """Run a federation: sites with simulated servers, a gateway, keys to try, and a live view. Ctrl-C ends it.

    All it keeps is in the state folder; a second start shows the same keys and takes up changes of demo.yaml.
    """
    import uvloop

    from ilaas.app.demo import DemoOptions, run_demo
    from ilaas.app.demo_distributed import run_distributed_demo

    options = DemoOptions(
        state_dir=state_dir or (DISTRIBUTED_DIR if distributed else DEMO_DIR),
        port=port,
        fresh=fresh,
        traffic_users=users if traffic else 0,
        plain=plain,
    )
    run = run_distributed_demo if distributed else run_demo
    uvloop.run(run(options, _show))


async def _show(demo: Demo) -> None:
    """The addresses and keys, then the live view until cancelled."""
    import httpx
    from rich.console import Console

    from ilaas.cli.live import run_live
    from ilaas.cli.live_merge import http_fetch_all
    from ilaas.cli.place import remember_config

    remember_config(demo.settings)
    console = Console(force_terminal=False if demo.options.plain else None, highlight=False)
    console.print(demo.welcome(), soft_wrap=True, markup=False)
    async with httpx.AsyncClient(trust_env=False) as client:
        await run_live(http_fetch_all(client, demo.ops_urls or (demo.ops_url,)), console=console)
