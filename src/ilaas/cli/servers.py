"""`ilaas server`: servers of the configuration file and those added at run time, with no restart of the gateway."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ilaas.cli import models
from ilaas.cli.options import SECRET_OPTION_HELP, AsJson, ConfigFile, StateDir, examples
from ilaas.cli.output import print_json, say
from ilaas.core.errors import InvalidRequest
from ilaas.core.values import Engine

if TYPE_CHECKING:
    from ilaas.cli.place import Place

TOKEN = "ILAAS_SERVER_TOKEN"

app = typer.Typer(
    name="server",
    help="Servers: list, add, drain, resume, remove. A running gateway takes changes over within a second.",
    epilog=examples("ilaas server list", "ilaas server drain paris-h200-1"),
    no_args_is_help=True,
)

ServerId = Annotated[str, typer.Argument(metavar="ID", help="As 'ilaas server list' shows it.")]


@app.command(name="list", epilog=examples("ilaas server list", "ilaas server list --json"))
def list_(*, as_json: AsJson = False, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """List all servers with their state."""
    from ilaas.cli.place import find_place

    found = list(models.pages(find_place(state_dir, config)).values())
    if as_json:
        print_json([{"model": page["model"], **server} for page in found for server in page["servers"]])
    else:
        models.print_servers(found)


@app.command(
    epilog=examples(
        "ilaas server add mistral-small --url https://gpu1.example.fr --site lille --owner univ-lille",
        "ilaas server add bge-m3 --url http://10.0.0.7:11434 --site reims --owner urca --engine ollama --allow-private",
        f"{TOKEN}=... ilaas server add qwen --url https://gpu2.example.fr --site saclay --owner cs",
    )
)
def add(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Public name of the model it serves.")],
    url: Annotated[str, typer.Option(help="Its base URL, without /v1.")],
    site: Annotated[str, typer.Option(help="The data centre.")],
    owner: Annotated[str, typer.Option(help="The organisation that provides it and goes first on it.")],
    engine: Annotated[Engine, typer.Option(help="The program behind the URL.")] = Engine.VLLM,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File that holds its API key; or set {TOKEN}. {SECRET_OPTION_HELP}"),
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", help="Its name in commands and metrics; else made up.")] = None,
    max_parallel_requests: Annotated[int | None, typer.Option(min=1)] = None,
    owner_reserved: Annotated[int, typer.Option(min=0, help="Slots that only the owner's requests may take.")] = 0,
    served_name: Annotated[
        str | None, typer.Option(help="The model's name on it; else its name on the file's servers, or the public one.")
    ] = None,
    context_window: Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and answer.")] = None,
    quantisation: Annotated[str | None, typer.Option(help="For example fp8, awq.")] = None,
    spot: Annotated[bool, typer.Option(help="It may be taken away at any time, for `continuation: spot`.")] = False,
    allow_private: Annotated[bool, typer.Option(help="Accept an address of a private network.")] = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Add a server to a model. Prints its id."""
    from ilaas.cli.place import Office, check_organisation, choose, find_place, work
    from ilaas.services.administration import NewServer

    place = find_place(state_dir, config)
    known = known_models(place)
    if known is not None:
        choose("model", model, known, "Models are defined in the configuration file.")
    new = NewServer(
        model=model,
        url=url,
        site=site,
        owner=owner,
        engine=engine,
        token=_token(token_file),
        max_parallel_requests=max_parallel_requests,
        owner_reserved=owner_reserved,
        served_name=served_name or _served_name(place, model),
        context_window=context_window,
        quantisation=quantisation,
        spot=spot,
        id=id_,
    )

    async def job(office: Office) -> str:
        await check_organisation(office, owner, "owner")
        added = await office.admin.add_server(new, place.settings.models, actor=office.actor)
        return added.spec.id

    server_id = work(place, job, private_addresses=allow_private)
    say(f"Added to {model}.")
    sys.stdout.write(server_id + "\n")


def _token(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get(TOKEN) or None
    try:
        return path.read_text().strip()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The file '{path}' holds no token: it is not text.", param="token-file") from None


def _served_name(place: Place, model: str) -> str | None:
    """What the model is called on its other servers, when they agree."""
    return next((spec.common_served_name() for spec in place.settings.models if spec.name == model), None)


@app.command(epilog=examples("ilaas server drain paris-h200-1"))
def drain(server_id: ServerId, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """Give a server no new request; answers under way come to their end."""
    _mark(server_id, state_dir, config, draining=True)
    say(f"'{server_id}' gets no new request. 'ilaas server list' shows what it still has in flight.")


@app.command(epilog=examples("ilaas server resume paris-h200-1"))
def resume(server_id: ServerId, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """Give a drained server requests again."""
    _mark(server_id, state_dir, config, draining=False)
    say(f"'{server_id}' gets requests again.")


@app.command(epilog=examples("ilaas server remove lille-mistral-small-4be1f0"))
def remove(server_id: ServerId, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """Remove a server that was added at run time; answers under way come to their end."""
    from ilaas.cli.place import Office, find_place, must_exist, work

    place = find_place(state_dir, config)
    must_exist(place)

    async def job(office: Office) -> None:
        await office.admin.remove_server(server_id, actor=office.actor)

    work(place, job)
    say(f"Removed '{server_id}'.")


def _mark(server_id: str, state_dir: Path | None, config: Path | None, *, draining: bool) -> None:
    from ilaas.cli.place import Office, choose, find_place, must_exist, work

    place = find_place(state_dir, config)
    must_exist(place)
    live = _live_models(place)
    pages: list[dict[str, Any]] = list(models.configured(place).values()) if live is None else live
    owners = {server["id"]: server["owner"] for page in pages for server in page["servers"]}

    async def job(office: Office) -> None:
        stored = {each.spec.id: each.spec.owner for each in await office.store.servers()}
        known = owners | stored
        choose("server", server_id, known, "'ilaas server list' shows them; name the configuration with --config.")
        change = office.admin.drain_server if draining else office.admin.resume_server
        await change(server_id, actor=office.actor, owner=known[server_id])

    work(place, job)


def known_models(place: Place) -> list[str] | None:
    """Names of the models; None when neither a gateway runs nor the configuration is known."""
    live = _live_models(place)
    if live is not None:
        return [model["model"] for model in live]
    return [model.name for model in place.settings.models] if place.configured else None


def _live_models(place: Place) -> list[dict[str, Any]] | None:
    from ilaas.cli.place import live_state

    state = live_state(place)
    return None if state is None else state["models"]
