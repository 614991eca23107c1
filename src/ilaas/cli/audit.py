"""`ilaas audit`: who changed what, when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.governing import all_pages, govern
from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples
from ilaas.cli.output import print_json, print_table, shown_time

if TYPE_CHECKING:
    from ilaas.core.rights import Caller
    from ilaas.ports.tenancy import NumberedLine
    from ilaas.services.governance import Governance

app = typer.Typer(
    name="audit",
    help="The audit trail: every change, who made it, and what it was before and after.",
    epilog=examples("ilaas audit list", "ilaas audit list --subject organisation:univ-angers --json"),
    no_args_is_help=True,
)


@app.callback()
def _all() -> None:
    """One command today; it stays `audit list` when others come."""


@app.command(name="list", epilog=examples("ilaas audit list --limit 20"))
def list_(
    subject: Annotated[str | None, typer.Option(help="Only changes of this, such as key:key_3f2a91c07be4d655.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many lines.")] = 50,
    *,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """List changes, the newest first. What they were before and are after is in the JSON."""
    from ilaas.services.governance.views import audit_view

    async def job(governance: Governance, caller: Caller) -> list[NumberedLine]:
        return await all_pages(lambda request: governance.audit.page(caller, request, subject), limit)

    found = govern(state_dir, config, job)
    if as_json:
        print_json([audit_view(entry) for entry in found])
        return
    print_table(
        ("at (UTC)", "who", "action", "subject"),
        ((shown_time(each.line.at_s), each.line.actor, each.line.action, each.line.subject) for each in found),
        "No change yet.",
    )
