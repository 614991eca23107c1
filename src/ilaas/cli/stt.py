"""`ilaas stt client`: OAuth clients of the speech API, changed in the store; a running gateway knows them at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ilaas.cli import stt_serve
from ilaas.cli.governing import all_pages, govern
from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples, seconds, split
from ilaas.cli.output import print_json, print_table, say, shown_time
from ilaas.core.enrichment.clients import ApiClient, ClientPolicy, Scope
from ilaas.core.enrichment.values import ModelChoice
from ilaas.core.errors import Conflict

if TYPE_CHECKING:
    from ilaas.core.rights import Caller
    from ilaas.services.enrichment.clients import ApiClients, MadeClient
    from ilaas.services.governance import Governance

T = TypeVar("T")

SECRET_VARIABLE = "ILAAS_CLIENT_SECRET"
_KINDS = {scope.removeprefix("scope_").removesuffix("_worker"): scope for scope in Scope}
"""`client`, `transcription`, … as people type them."""

app = typer.Typer(
    name="stt",
    help="The speech service: its clients, and engines of this machine.",
    epilog=examples("ilaas stt client create --organisation univ-lille --project video --name pod"),
    no_args_is_help=True,
)
client_app = typer.Typer(
    name="client",
    help="OAuth clients of the speech API: create, list, revoke.",
    epilog=examples(
        "ilaas stt client create --organisation univ-lille --project video --name pod", "ilaas stt client list"
    ),
    no_args_is_help=True,
)
app.add_typer(client_app)
stt_serve.add_to(app)


@client_app.command(
    epilog=examples(
        "ilaas stt client create --organisation univ-lille --project video --name pod",
        "ilaas stt client create --organisation univ-lille --project video --name nudgis --sign-webhooks --json",
        "ilaas stt client create --organisation gpu --project workers --name whisper --scopes transcription",
    )
)
def create(
    *,
    organisation: Annotated[str, typer.Option(help="The organisation it belongs to; made when it is new.")],
    project: Annotated[str, typer.Option(help="The project its work counts for; made when it is new.")],
    name: Annotated[str, typer.Option(help="Its name in the project.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may do: client, or for a remote worker transcription, processing, translation, evaluation."
        ),
    ] = None,
    client_id: Annotated[
        str | None, typer.Option("--id", help="The id that it has already, so that nothing changes where it runs.")
    ] = None,
    keep_media: Annotated[str, typer.Option(help="How long media stay after their transcription, as 7d.")] = "0s",
    keep_results: Annotated[str | None, typer.Option(help="How long results stay, as 365d. Else for ever.")] = None,
    interactive: Annotated[bool, typer.Option(help="Its work goes before batch work.")] = False,
    serves: Annotated[
        str | None, typer.Option(help="Of a remote worker: what it runs, as MODEL or MODEL@PLACE.")
    ] = None,
    sign_webhooks: Annotated[bool, typer.Option(help="Sign its webhooks; prints the secret for it too.")] = False,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Create a client. Prints id and secret on standard output: the secret is never shown again.

    The variable ILAAS_CLIENT_SECRET gives the secret that it has already. It is not taken from the command line itself,
    which other users of the machine can read.
    """
    from ilaas.services.enrichment.clients import NewClient

    new = NewClient(
        name=name,
        organisation=organisation,
        project=project,
        scopes=_scopes(scopes),
        policy=ClientPolicy(
            keep_media_s=seconds(keep_media, "--keep-media"),
            keep_results_s=None if keep_results is None else seconds(keep_results, "--keep-results"),
            interactive=interactive,
            serves=_choice(serves),
        ),
        signs_webhooks=sign_webhooks,
        id=client_id,
        secret=os.environ.get(SECRET_VARIABLE) or None,
    )

    async def job(clients: ApiClients, governance: Governance, caller: Caller) -> MadeClient:
        await _ensure(governance, caller, organisation, project)
        return await clients.create(caller, new)

    made = _work(state_dir, config, job, new=True)
    say(f"Created {made.client.id} for {organisation}/{project}/{name}. The secret below is not shown again.")
    shown = {"client_id": made.client.id, "client_secret": made.secret}
    if made.client.webhook_secret is not None:
        shown["webhook_secret"] = made.client.webhook_secret
    if as_json:
        print_json(shown)
        return
    sys.stdout.write("".join(f"{key}={value}\n" for key, value in shown.items()))


@client_app.command(name="list", epilog=examples("ilaas stt client list", "ilaas stt client list --json"))
def list_(
    organisation: Annotated[str | None, typer.Option(help="Only clients of this organisation.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Revoked clients too.")] = False,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """List clients. No secret is shown: it is not stored anywhere."""
    from ilaas.services.enrichment.client_views import used_view

    async def job(clients: ApiClients, _: Governance, caller: Caller) -> list[ApiClient]:
        return await all_pages(lambda request: clients.page(caller, request, organisation=organisation))

    found = [each for each in _work(state_dir, config, job) if each.active or everything]
    if as_json:
        print_json([used_view(each) for each in found])
        return
    names = {scope: kind for kind, scope in _KINDS.items()}
    print_table(
        ("id", "organisation", "project", "name", "state", "scopes", "last token", "last job"),
        (
            (
                *(each.id, each.organisation, each.project, each.name),
                "live" if each.active else "revoked",
                ",".join(sorted(names[scope] for scope in each.scopes - {Scope.DEFAULT})),
                shown_time(each.last_token_at_s),
                shown_time(each.last_job_at_s),
            )
            for each in found
        ),
        "No client. Create one with 'ilaas stt client create'.",
    )


@client_app.command(epilog=examples("ilaas stt client revoke 9f2c4a7be01d43c8a5b6d7e8f9012345"))
def revoke(
    client_id: Annotated[str, typer.Argument(metavar="CLIENT", help="Its id.")],
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Revoke a client, now and for good: its tokens are refused at once."""

    async def job(clients: ApiClients, _: Governance, caller: Caller) -> ApiClient:
        return await clients.revoke(caller, client_id)

    client = _work(state_dir, config, job)
    say(f"Revoked {client.id} ({client.organisation}/{client.project}/{client.name}).")


def _work(
    state_dir: Path | None,
    config: Path | None,
    job: Callable[[ApiClients, Governance, Caller], Awaitable[T]],
    *,
    new: bool = False,
) -> T:
    from ilaas.adapters.secret import load_secret
    from ilaas.adapters.sql.enrichment_store import SqlEnrichmentStore
    from ilaas.cli.place import find_place
    from ilaas.services.enrichment.clients import ApiClients

    place = find_place(state_dir, config)

    async def run(governance: Governance, caller: Caller) -> T:
        store = SqlEnrichmentStore(place.settings.database_url, load_secret(place.state_dir))
        await store.open()
        try:
            return await job(ApiClients(governance.office, store), governance, caller)
        finally:
            await store.close()

    return govern(state_dir, config, run, new=new)


async def _ensure(governance: Governance, caller: Caller, organisation: str, project: str) -> None:
    from ilaas.core.tenancy import Organisation, Project

    with suppress(Conflict):
        await governance.organisations.create(caller, Organisation(name=organisation))
    with suppress(Conflict):
        await governance.projects.create(caller, Project(organisation=organisation, name=project))


def _choice(text: str | None) -> ModelChoice:
    model, _, place = (text or "").rpartition("@") if "@" in (text or "") else (text or "", "", "")
    return ModelChoice(model=model or None, infrastructure=place or None)


def _scopes(values: list[str] | None) -> frozenset[Scope]:
    names = split(values) or {"client"}
    wrong = sorted(names - _KINDS.keys())
    if wrong:
        raise typer.BadParameter(f"'{wrong[0]}' is not one of {', '.join(_KINDS)}", param_hint="'--scopes'")
    return frozenset(_KINDS[each] for each in names)
