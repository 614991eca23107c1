"""`ilaas person` and `ilaas role`: who may administer, and what."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.governing import all_pages, govern
from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples, expiry_s
from ilaas.cli.output import print_json, print_table, say
from ilaas.core.people import Person, Role, RoleGrant

if TYPE_CHECKING:
    from ilaas.core.rights import Caller
    from ilaas.services.governance import Governance

app = typer.Typer(
    name="person",
    help="People who administer: list, add, token. What they may do is their roles ('ilaas role').",
    epilog=examples("ilaas person add 'Anne Durand' --email anne@example.org --role operator", "ilaas person list"),
    no_args_is_help=True,
)
roles_app = typer.Typer(
    name="role",
    help="Roles of people: grant, revoke.",
    epilog=examples("ilaas role grant anne@example.org organisation-manager --organisation univ-angers"),
    no_args_is_help=True,
)

Who = Annotated[str, typer.Argument(metavar="PERSON", help="Id or e-mail of the person.")]
WhichRole = Annotated[Role, typer.Argument(metavar="ROLE", help=f"One of: {', '.join(Role)}.")]
InOrganisation = Annotated[str | None, typer.Option("--organisation", help="Where; an operator has none.")]
InProject = Annotated[str | None, typer.Option("--project", help="Where, for a project-manager.")]


@app.command(name="list", epilog=examples("ilaas person list", "ilaas person list --json"))
def list_(*, as_json: AsJson = False, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """List people with their roles."""
    from ilaas.services.governance.views import person_view

    async def job(governance: Governance, caller: Caller) -> list[tuple[Person, frozenset[RoleGrant]]]:
        return await all_pages(lambda request: governance.people.page(caller, request))

    found = govern(state_dir, config, job)
    if as_json:
        print_json([person_view(*each) for each in found])
        return
    print_table(
        ("id", "name", "e-mail", "active", "roles"),
        (
            (
                person.id,
                person.name,
                person.email,
                "yes" if person.active else "no",
                ", ".join(sorted(map(_shown, grants))) or None,
            )
            for person, grants in found
        ),
        "Nobody. Add someone with 'ilaas person add'.",
    )


@app.command(
    epilog=examples(
        "ilaas person add 'Anne Durand' --email anne@example.org --role operator",
        "ilaas person add 'Bo Li' --role project-manager --organisation univ-angers --project corpus",
    )
)
def add(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As others see it.")],
    email: Annotated[str | None, typer.Option(help="To find the person by.")] = None,
    subject: Annotated[str | None, typer.Option(help="What single sign-on calls the person.")] = None,
    role: Annotated[Role | None, typer.Option(help="The first role.")] = None,
    organisation: InOrganisation = None,
    project: InProject = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Add a person. Prints the id."""
    grants = [] if role is None else [_grant(role, organisation, project)]
    person = Person(id="", name=name, email=email, subject=subject)

    async def job(governance: Governance, caller: Caller) -> str:
        return (await governance.people.create(caller, person, grants))[0].id

    person_id = govern(state_dir, config, job, new=True)
    say(f"Added {name}. 'ilaas person token {person_id}' makes something to sign in with.")
    sys.stdout.write(person_id + "\n")


@app.command(epilog=examples("ilaas person token anne@example.org --name laptop --expires 90d"))
def token(
    *,
    who: Who,
    name: Annotated[str, typer.Option(help="What it is for.")] = "command line",
    expires: Annotated[str, typer.Option(help="When it ends: 30d, 12h, a date (to its end, UTC) or a time.")] = "365d",
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Make a personal access token for the administration API. Prints it on standard output, once."""
    expires_at_s = expiry_s(expires)

    async def job(governance: Governance, caller: Caller) -> tuple[str, str]:
        person, _ = await governance.people.find(caller, who)
        secret, made = await governance.tokens.create(caller, person.id, name, expires_at_s)
        return secret, made.id

    secret, token_id = govern(state_dir, config, job)
    say(f"Made {token_id} for {who}. The token below is not shown again.")
    sys.stdout.write(secret + "\n")


@roles_app.command(
    epilog=examples(
        "ilaas role grant anne@example.org operator",
        "ilaas role grant person_4be1f0 project-manager --organisation univ-angers --project corpus",
    )
)
def grant(
    who: Who,
    role: WhichRole,
    organisation: InOrganisation = None,
    project: InProject = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Give a person a role."""
    given = _grant(role, organisation, project)

    async def job(governance: Governance, caller: Caller) -> None:
        person, _ = await governance.people.find(caller, who)
        await governance.roles.grant(caller, person.id, given)

    govern(state_dir, config, job)
    say(f"{who} is now {_shown(given)}.")


@roles_app.command(epilog=examples("ilaas role revoke anne@example.org operator"))
def revoke(
    who: Who,
    role: WhichRole,
    organisation: InOrganisation = None,
    project: InProject = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Take a role away."""
    taken = _grant(role, organisation, project)

    async def job(governance: Governance, caller: Caller) -> None:
        person, _ = await governance.people.find(caller, who)
        await governance.roles.take(caller, person.id, taken)

    govern(state_dir, config, job)
    say(f"{who} is no longer {_shown(taken)}.")


def _grant(role: Role, organisation: str | None, project: str | None) -> RoleGrant:
    try:
        return RoleGrant(role, organisation, project)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _shown(grant: RoleGrant) -> str:
    place = "/".join(part for part in (grant.organisation, grant.project) if part)
    return f"{grant.role} of {place}" if place else str(grant.role)
