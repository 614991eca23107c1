"""`ilaas serve`: a gateway, a dispatcher, a worker or all of them, until it is told to stop."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ilaas.app.settings import Role
from ilaas.cli.options import examples


class LogFormat(StrEnum):
    """How log lines are written."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def add_to(app: typer.Typer) -> None:
    """Give `app` the command."""
    app.command(
        epilog=examples(
            "ilaas serve --config ilaas.yaml",
            "ilaas serve --config ilaas.yaml --host 0.0.0.0 --port 80 --log-format json",
            "ilaas serve --config ilaas.yaml --role dispatcher --state-dir /var/lib/ilaas/dispatcher",
            "ilaas serve --config ilaas.yaml --role worker --metrics-port 0   # beside others, on one machine",
            "kill -HUP $(pidof -x ilaas)   # read the file again now; it is followed anyway",
        )
    )(serve)


def serve(
    *,
    config: Annotated[Path, typer.Option("--config", help="The configuration file.")],
    role: Annotated[
        Role, typer.Option(envvar="ILAAS_ROLE", help="What this process does; gateways and dispatchers need a broker.")
    ] = Role.ALL,
    host: Annotated[str | None, typer.Option(help="Address to listen on; else the file's.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of metrics and live state; 0 takes a free one.")
    ] = None,
    state_dir: Annotated[Path | None, typer.Option(help="State folder; else ILAAS_STATE_DIR, else the file's.")] = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="Log lines; auto is text on a terminal, else JSON.")
    ] = LogFormat.AUTO,
    log_level: LogLevel = LogLevel.INFO,
) -> None:
    """Run the gateway, or another part of the platform (--role).

    SIGTERM or Ctrl-C lets answers under way come to their end; SIGHUP reads the file again.
    """
    import structlog
    import uvloop

    from ilaas import __version__
    from ilaas.app.config import load_config
    from ilaas.app.observe import configure_logging
    from ilaas.app.parts import serve_part
    from ilaas.app.process import Run
    from ilaas.app.run_file import Address
    from ilaas.cli.place import remember_config

    settings = load_config(config, os.environ)
    given = {"role": role, "host": host, "port": port, "ops_port": metrics_port, "state_dir": state_dir}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]  # each has its field's type
    as_json = not sys.stderr.isatty() if log_format is LogFormat.AUTO else log_format is LogFormat.JSON
    configure_logging(as_json, log_level.value)
    log = structlog.get_logger("ilaas")
    for warning in settings.warnings:
        log.warning("configuration_doubtful", message=warning)
    remember_config(settings)

    def ready(address: Address) -> None:
        event = "gateway_started" if role is Role.ALL else f"{role}_started"
        log.info(
            event,
            version=__version__,
            url=f"http://{address.host}:{address.port}",
            metrics=f"http://{address.ops_host}:{address.ops_port}/metrics",
            models=len(settings.models),
            servers=sum(len(model.servers) for model in settings.models),
            state_dir=str(settings.state_dir),
        )

    uvloop.run(serve_part(settings, Run(ready=ready)))
