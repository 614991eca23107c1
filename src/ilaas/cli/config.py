"""`ilaas config`: look at a configuration file before a gateway does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ilaas.cli.options import examples
from ilaas.cli.output import say

app = typer.Typer(
    name="config",
    help="The configuration file: check it before a gateway reads it.",
    epilog=examples("ilaas config check ilaas.yaml"),
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Keeps `check` a command of its own."""


@app.command(
    epilog=examples("ilaas config check ilaas.yaml", "ilaas config check values.yaml && systemctl reload ilaas")
)
def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration file.")]) -> None:
    """Check a file whole. Every problem is told with its line, and the exit code is 1; warnings leave it 0."""
    from ilaas.app.config import load_config

    settings = load_config(file, os.environ)
    for warning in settings.warnings:
        say(f"Warning: {warning}")
    servers = [server for model in settings.models for server in model.servers]
    sites = {server.site for server in servers}
    print(f"{file}: correct")
    print(f"  models         {len(settings.models)}: {', '.join(model.name for model in settings.models) or 'none'}")
    print(f"  servers        {len(servers)} at {len(sites)} site{'s' * (len(sites) != 1)}: {', '.join(sorted(sites))}")
    if settings.organisations:
        print(f"  organisations  {', '.join(f'{each.name} ({each.weight:g})' for each in settings.organisations)}")
    print(f"  listens on     http://{settings.host}:{settings.port}")
    print(f"  metrics on     http://{settings.ops_host}:{settings.ops_port}/metrics")
    print(f"  state folder   {settings.state_dir}")
    print(f"  database       {'named in the file' if settings.store_url else 'SQLite in the state folder'}")
