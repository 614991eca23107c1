"""`ilaas top`: the live view of a gateway that runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ilaas.cli.options import ConfigFile, StateDir, examples
from ilaas.core.errors import InvalidRequest, NotFound


def add_to(app: typer.Typer) -> None:
    """Give `app` the command."""
    app.command(epilog=examples("ilaas top", "ilaas top --url http://gw1:9464 --url http://gw2:9464"))(top)


def top(
    url: Annotated[
        list[str] | None,
        typer.Option(help="The listener of metrics and live state, several for several parts; else that running here."),
    ] = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Watch queues, servers and requests, until Ctrl-C. Where the output is no terminal: one line every 5 s."""
    import asyncio

    import httpx

    from ilaas.app.run_file import ops_url, read_run_file
    from ilaas.cli.live import run_live
    from ilaas.cli.live_merge import http_fetch_all
    from ilaas.cli.place import find_place

    urls = [each.rstrip("/") for each in url or ()]
    for each in urls:
        if not each.startswith(("http://", "https://")):
            raise InvalidRequest(f"'{each}' is no address; write it like http://127.0.0.1:9464.", param="url")
    if not urls:
        place = find_place(state_dir, config)
        run = read_run_file(place.state_dir)
        if run is None:
            raise NotFound(f"No gateway runs with the state folder '{place.state_dir}'. Name one with --url.")
        urls = [ops_url(run)]

    async def watch() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            await run_live(http_fetch_all(client, urls))

    try:
        asyncio.run(watch())
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
