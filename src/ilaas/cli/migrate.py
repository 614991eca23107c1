"""`ilaas migrate`: from today's dispatcher to this gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples
from ilaas.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from ilaas.ports.store import Store
    from ilaas.services.administration import Administration
    from ilaas.services.migration import Plan

app = typer.Typer(name="migrate", help="Take over what the dispatcher of today has.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Take over what the dispatcher of today has. Its models are read by 'ilaas serve --config values.yaml' as is."""


@app.command(
    epilog=examples(
        "DATABASE_URL=postgresql+psycopg2://aristote:SECRET@db/aristote ilaas migrate dispatcher",
        "ilaas migrate dispatcher mysql+pymysql://aristote@db/aristote --organisation-default CentraleSupelec --apply",
    )
)
def dispatcher(
    database_url: Annotated[
        str,
        typer.Argument(envvar="DATABASE_URL", help="The dispatcher's database, as in its own settings. Only read."),
    ],
    *,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Write. Without it, only show what would happen.")
    ] = False,
    organisation_default: Annotated[
        str | None, typer.Option(help="For users without an organisation; they are refused without it.")
    ] = None,
    project: Annotated[str, typer.Option(help="The project in which the keys are put.")] = "imported",
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Import the dispatcher's users: every client keeps its bearer token. May be run again at any time.

    Exit code 1 when a user could not be imported.
    """
    import asyncio
    import secrets
    import time

    from ilaas.adapters.dispatcher_db import read_users
    from ilaas.adapters.store_memory import MemoryStore
    from ilaas.cli.place import Office, find_place, work
    from ilaas.services.administration import Administration
    from ilaas.services.migration import DispatcherImport, ImportOptions, Step

    place = find_place(state_dir, config)
    users = asyncio.run(read_users(database_url))
    options = ImportOptions(
        project=project,
        organisation_default=organisation_default,
        known_organisations=frozenset(
            {each.name for each in place.settings.organisations}
            | {server.owner for model in place.settings.models for server in model.servers}
        ),
    )

    async def run(store: Store, admin: Administration, pepper: bytes, actor: str) -> Plan:
        importing = DispatcherImport(store, admin, pepper, time.time, secrets.token_bytes)
        plan = await importing.plan(users, options)
        return await importing.carry_out(plan, actor=actor) if apply else plan

    async def job(office: Office) -> Plan:
        from ilaas.adapters.secret import load_secret

        return await run(office.store, office.admin, load_secret(place.state_dir).pepper, office.actor)

    if apply or place.has_store:
        plan = work(place, job)
    else:  # nothing is there yet, and a dry run makes nothing
        nowhere, pepper = MemoryStore(), bytes(32)
        admin = Administration(nowhere, pepper, time.time, secrets.token_bytes, lambda _url: None)
        plan = asyncio.run(run(nowhere, admin, pepper, ""))
    _report(plan, apply=apply, as_json=as_json)
    if plan.count(Step.REFUSE):
        raise typer.Exit(1)


def _report(plan: Plan, *, apply: bool, as_json: bool) -> None:
    from ilaas.services.migration import Step

    if as_json:
        users = [
            {
                "row": each.user.number,
                "name": each.user.name,
                "step": each.step,
                "organisation": None if each.key is None else each.key.organisation,
                "note": each.note,
            }
            for each in plan.users
        ]
        print_json({"applied": apply, "users": users, "organisations": plan.organisations, "notes": plan.notes})
        return
    words = {
        Step.CREATE: "imported" if apply else "would be imported",
        Step.KNOWN: "there already",
        Step.REFUSE: "can't be imported",
    }
    rows = [
        (
            each.user.number,
            each.user.name,
            None if each.key is None else each.key.organisation,
            None if each.key is None else each.key.priority,
            None if each.key is None else each.key.threshold,
            None if each.key is None else each.key.routing_mode.value,
            words[each.step],
            each.note,
        )
        for each in plan.users
    ]
    columns = ("row", "name", "organisation", "priority", "threshold", "mode", "", "note")
    print_table(columns, rows, "The dispatcher has no users.")
    if plan.organisations:
        say(f"New organisations: {', '.join(plan.organisations)}.")
    for note in plan.notes:
        say(f"Note: {note}")
    say(f"{', '.join(f'{plan.count(step)} {word}' for step, word in words.items())}.")
    if not apply:
        say("Nothing was written. Run it again with --apply to import.")
