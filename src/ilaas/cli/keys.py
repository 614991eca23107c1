"""`ilaas key`: API keys, changed in the store; a running gateway takes changes over within a second."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples, expiry_s, seconds, split
from ilaas.cli.output import print_json, print_table, say, shown_time
from ilaas.core.values import RequestClass, RoutingMode

app = typer.Typer(
    name="key",
    help="API keys: create, list, revoke, rotate. A running gateway takes changes over within a second.",
    epilog=examples("ilaas key create --organisation univ-lille --project physics --name alice", "ilaas key list"),
    no_args_is_help=True,
)

WhichKey = Annotated[
    str, typer.Argument(metavar="KEY", help="Id of the key, its beginning as shown in lists, or the key itself.")
]
Count = Annotated[int | None, typer.Option(min=0, metavar="N")]


@app.command(
    epilog=examples(
        "ilaas key create --organisation univ-lille --project physics --name alice",
        "ilaas key create --organisation univ-lille --project nlp --name nightly --classes batch --expires 30d",
        "KEY=$(ilaas key create --organisation univ-lille --project lab --name bob --requests-per-minute 60)",
    )
)
def create(
    *,
    organisation: Annotated[str, typer.Option(help="The organisation it belongs to.")],
    project: Annotated[str, typer.Option(help="The project it belongs to; made when it is new.")],
    name: Annotated[str, typer.Option(help="Its name in the project: who or what uses it.")],
    priority: Annotated[int, typer.Option(help="Order inside the organisation: higher goes first.")] = 0,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 30d, 12h, a date (to its end, UTC) or a time. Else never.")
    ] = None,
    routing_mode: Annotated[
        RoutingMode, typer.Option(help="Servers it uses when a request does not say.")
    ] = RoutingMode.ANY,
    classes: Annotated[
        list[str] | None, typer.Option(help="What it may send: interactive, batch, or both (the default).")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Models it may use, repeated or with commas. Else all open to it.")
    ] = None,
    requests_per_minute: Count = None,
    tokens_per_minute: Count = None,
    tokens_per_day: Count = None,
    tokens_per_month: Count = None,
    simultaneous_requests: Count = None,
    budget_eur_per_month: Annotated[float | None, typer.Option(min=0, metavar="EUR")] = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Create a key. Prints its secret on standard output, and nothing else there: it is never shown again."""
    from ilaas.cli.place import Office, check_organisation, find_place, work
    from ilaas.core.quota.limits import Limits
    from ilaas.services.administration import NewKey

    new = NewKey(
        organisation=organisation,
        project=project,
        name=name,
        priority=priority,
        routing_mode=routing_mode,
        classes=_classes(classes),
        models=split(models),
        expires_at_s=expiry_s(expires),
        limits=Limits(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            tokens_per_day=tokens_per_day,
            tokens_per_month=tokens_per_month,
            simultaneous_requests=simultaneous_requests,
            budget_micro_eur_per_month=None if budget_eur_per_month is None else round(budget_eur_per_month * 1e6),
        ),
    )

    async def job(office: Office) -> str:
        await check_organisation(office, organisation, "organisation")
        secret, key = await office.admin.create_key(new, actor=office.actor)
        until = f", until {shown_time(key.expires_at_s)} UTC" if key.expires_at_s else ""
        say(f"Created {key.id} for {organisation}/{project}/{name}{until}. The secret below is not shown again.")
        return secret

    sys.stdout.write(work(find_place(state_dir, config), job) + "\n")


def _classes(values: list[str] | None) -> frozenset[RequestClass]:
    allowed = frozenset({RequestClass.INTERACTIVE, RequestClass.BATCH})
    names = split(values)
    if names is None:
        return allowed
    wrong = sorted(names - set(allowed))
    if wrong:
        raise typer.BadParameter(f"'{wrong[0]}' is not one of interactive, batch", param_hint="'--classes'")
    return frozenset(RequestClass(each) for each in names)


@app.command(name="list", epilog=examples("ilaas key list", "ilaas key list --organisation univ-lille --all --json"))
def list_(
    organisation: Annotated[str | None, typer.Option(help="Only keys of this organisation.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Expired and revoked keys too.")] = False,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """List keys. No secret is shown: it is not stored anywhere."""
    import time

    from ilaas.cli.place import Office, find_place, must_exist, work
    from ilaas.core.tenancy import Key

    place = find_place(state_dir, config)
    must_exist(place)

    async def job(office: Office) -> list[Key]:
        return list(await office.admin.list_keys(organisation=organisation, include_dead=everything))

    keys = work(place, job)
    if as_json:
        print_json([_key_json(key) for key in keys])
        return
    now = time.time()
    columns = ("id", "begins", "organisation", "project", "name", "state", "classes", "mode", "priority", "expires")
    print_table(
        (*columns, "last used"),
        (
            (
                *(key.id, key.hint, key.organisation, key.project, key.name),
                "live" if key.usable_at(now) else "revoked" if key.revoked_at_s else "expired",
                ",".join(sorted(key.classes)),
                key.routing_mode.value,
                key.priority,
                shown_time(key.expires_at_s),
                shown_time(key.last_used_at_s),
            )
            for key in keys
        ),
        "No key. Create one with 'ilaas key create'.",
    )


def _key_json(key: object) -> dict[str, object]:
    """All fields of a key but its digest."""
    import dataclasses

    return {
        item.name: getattr(key, item.name)
        for item in dataclasses.fields(key)  # type: ignore[arg-type]  # a Key, imported late
        if item.name != "digest"
    }


@app.command(epilog=examples("ilaas key revoke key_3f2a91c07be4d655", "ilaas key revoke ilaas-9GZk"))
def revoke(which: WhichKey, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """Revoke a key, now and for good."""
    from ilaas.app.run_file import read_run_file
    from ilaas.cli.place import Office, find_place, must_exist, work
    from ilaas.core.tenancy import Key

    place = find_place(state_dir, config)
    must_exist(place)

    async def job(office: Office) -> Key:
        return await office.admin.revoke_key(which, actor=office.actor)

    key = work(place, job)
    running = " The running gateway refuses it within a second." if read_run_file(place.state_dir) else ""
    say(f"Revoked {key.id} ({key.organisation}/{key.project}/{key.name}).{running}")


@app.command(epilog=examples("ilaas key rotate key_3f2a91c07be4d655", "ilaas key rotate ilaas-9GZk --overlap 7d"))
def rotate(
    which: WhichKey,
    overlap: Annotated[str, typer.Option(help="How long the old secret still works, such as 24h or 7d.")] = "24h",
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Give a key a new secret, printed alone on standard output; the old one works on for a while."""
    from ilaas.cli.place import Office, find_place, must_exist, work

    place = find_place(state_dir, config)
    must_exist(place)
    overlap_s = seconds(overlap, "--overlap")

    async def job(office: Office) -> str:
        return await office.admin.rotate_key(which, overlap_s, actor=office.actor)

    secret = work(place, job)
    say(f"The old secret works for another {overlap}. The new one below is not shown again.")
    sys.stdout.write(secret + "\n")
