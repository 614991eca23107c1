"""`ilaas project`: projects of organisations, which own keys and quotas."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.governing import LimitOptions, all_pages, govern, shown_limits, with_limits
from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples, split
from ilaas.cli.output import print_json, print_table, say
from ilaas.core.tenancy import Project

if TYPE_CHECKING:
    from ilaas.core.rights import Caller
    from ilaas.services.governance import Governance

app = typer.Typer(
    name="project",
    help="Projects: list, add, set. A running gateway takes changes over within a second.",
    epilog=examples("ilaas project add univ-angers corpus --limit tokens-per-day=5000000", "ilaas project list"),
    no_args_is_help=True,
)

OrganisationName = Annotated[str, typer.Argument(metavar="ORGANISATION", help="The organisation it belongs to.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name in the organisation.")]
Models = Annotated[
    list[str] | None,
    typer.Option(help="Models its keys may use, repeated or with commas; 'all' for all open to the organisation."),
]


@app.command(name="list", epilog=examples("ilaas project list", "ilaas project list --organisation univ-angers"))
def list_(
    organisation: Annotated[str | None, typer.Option(help="Only projects of this organisation.")] = None,
    *,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """List projects."""
    from ilaas.services.governance.views import project_view

    async def job(governance: Governance, caller: Caller) -> list[Project]:
        return await all_pages(lambda request: governance.projects.page(caller, request, organisation))

    found = govern(state_dir, config, job)
    if as_json:
        print_json([project_view(each) for each in found])
        return
    print_table(
        ("organisation", "name", "active", "models", "limits"),
        (
            (
                each.organisation,
                each.name,
                "yes" if each.active else "no",
                "all" if each.models is None else ",".join(sorted(each.models)),
                shown_limits(each.limits),
            )
            for each in found
        ),
        "No project. Add one with 'ilaas project add'.",
    )


@app.command(epilog=examples("ilaas project add univ-angers corpus --models mistral-small,bge-m3"))
def add(
    *,
    organisation: OrganisationName,
    name: Name,
    models: Models = None,
    limit: LimitOptions = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Add a project to an organisation that is there."""
    new = _changed(Project(organisation=organisation, name=name), models, limit)

    async def job(governance: Governance, caller: Caller) -> None:
        await governance.projects.create(caller, new)

    govern(state_dir, config, job)
    say(f"Added '{name}' to '{organisation}'.")


@app.command(
    name="set",
    epilog=examples(
        "ilaas project set univ-angers corpus --limit tokens-per-day=none --models all",
        "ilaas project set univ-angers corpus --no-active",
    ),
)
def set_(
    *,
    organisation: OrganisationName,
    name: Name,
    active: Annotated[bool | None, typer.Option(help="Whether its keys may be used.")] = None,
    models: Models = None,
    limit: LimitOptions = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Change a project; what is not named stays."""

    async def job(governance: Governance, caller: Caller) -> None:
        old = await governance.projects.get(caller, organisation, name)
        new = _changed(old, models, limit)
        await governance.projects.change(caller, new if active is None else replace(new, active=active), "*")

    govern(state_dir, config, job)
    say(f"Set '{name}' of '{organisation}'.")


def _changed(old: Project, models: list[str] | None, limit: list[str] | None) -> Project:
    wanted = split(models)
    if wanted is not None:
        old = replace(old, models=None if wanted == {"all"} else wanted)
    return replace(old, limits=with_limits(old.limits, limit))
