"""The command `ilaas`. Commands import what they need when they run, so that help is there at once."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from ilaas import __version__
from ilaas.cli import (
    config,
    demo,
    keys,
    media,
    migrate,
    models,
    serve,
    servers,
    sim,
    simulate,
    statements,
    stt,
    tariffs,
    top,
    usage,
    weights,
)
from ilaas.cli.options import examples
from ilaas.cli.output import fail
from ilaas.cli.tenancy import TENANCY_APPS
from ilaas.core.errors import IlaasError

CTRL_C = 130
"""128 and the number of SIGINT, as shells have it."""
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""The parent of everything that is wrong with how a command was called."""

app = typer.Typer(
    name="ilaas",
    help="The platform with which French universities pool their AI inference.",
    epilog=examples("ilaas demo --traffic", "ilaas serve --config ilaas.yaml", "ilaas key create --help"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo.add_to(app)
serve.add_to(app)
app.add_typer(keys.app)
app.add_typer(models.app)
app.add_typer(servers.app)
app.add_typer(config.app)
for part in (*TENANCY_APPS, usage.app, tariffs.app, statements.app, weights.app, migrate.app, media.app, stt.app):
    app.add_typer(part)
top.add_to(app)
app.add_typer(sim.app)
app.add_typer(simulate.app)


@app.command(epilog=examples("ilaas version"))
def version() -> None:
    """Print the version."""
    print(f"ilaas {__version__}")


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _all(
    *,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="ILAAS_DEBUG", help="Show the trace of an internal error.")
    ] = False,
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    if debug:
        os.environ["ILAAS_DEBUG"] = "1"


def run(arguments: Sequence[str] | None = None, application: typer.Typer = app) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 called wrongly, 130 ended by Ctrl-C."""
    try:
        code = application(
            args=None if arguments is None else list(arguments), prog_name="ilaas", standalone_mode=False
        )
    except _USAGE_ERROR as error:
        return _usage(error)
    except IlaasError as error:
        fail(error.message)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return CTRL_C
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes
        return 1
    except OSError as error:
        return _fault(error, f"{error.filename or 'the system'}: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001  # the last resort: people get one line, and the trace when they ask
        return _fault(error, f"internal error ({type(error).__name__}: {error}); run 'ilaas --debug ...' for its trace")
    return code if isinstance(code, int) else 0


def _fault(error: Exception, message: str) -> int:
    if os.environ.get("ILAAS_DEBUG"):
        traceback.print_exception(error)
    fail(message)
    return 1


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        if context is not None:
            context.command.get_help(context)
        return 2
    said = getattr(error, "format_message", lambda: str(error))()
    path = context.command_path if context is not None else "ilaas"
    fail(f"{said.rstrip('.')}. See '{path} --help'.")
    return 2


def main() -> None:
    """The entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
