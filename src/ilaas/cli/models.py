"""`ilaas model`: what is offered and how it is doing, from the running gateway when there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples
from ilaas.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from ilaas.cli.place import Place

_LABELS = {"predicted_wait_s": "predicted wait (s)", "lifecycle": "life cycle"}

app = typer.Typer(
    name="model",
    help="Models: what is offered, and how each is doing now when a gateway runs.",
    epilog=examples("ilaas model list", "ilaas model show mistral-small"),
    no_args_is_help=True,
)


@app.command(name="list", epilog=examples("ilaas model list", "ilaas model list --config ilaas.yaml --json"))
def list_(*, as_json: AsJson = False, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """List the models with their queues and servers."""
    from ilaas.cli.place import find_place

    found = pages(find_place(state_dir, config))
    if as_json:
        print_json(list(found.values()))
        return
    print_table(
        ("model", "category", "life cycle", "state", "servers up", "running", "queued", "wait"),
        (
            (
                *(page["model"], page.get("category"), page.get("lifecycle"), page.get("state", "not running")),
                f"{sum(server['state'] == 'up' for server in page['servers'])}/{len(page['servers'])}",
                page.get("running"),
                sum(page["queued"].values()) if "queued" in page else None,
                f"{page['predicted_wait_s']:.1f} s" if "predicted_wait_s" in page else None,
            )
            for page in found.values()
        ),
        "No model. Models are defined in the configuration file: 'ilaas serve --config FILE'.",
    )


@app.command(epilog=examples("ilaas model show mistral-small", "ilaas model show mistral-small --json"))
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its public name.")],
    *,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Show one model: settings, queue by class and organisation, servers."""
    from ilaas.cli.place import choose, find_place

    found = pages(find_place(state_dir, config))
    names = {alias: page["model"] for page in found.values() for alias in page.get("aliases", ())}
    page = found[choose("model", names.get(name, name), found, "'ilaas model list' shows them.")]
    if as_json:
        print_json(page)
        return
    for label, value in page.items():
        if label == "servers" or value in (None, "", [], {}):
            continue
        print(f"{_LABELS.get(label, label.replace('_', ' '))}: {_words(value)}")
    print()
    print_servers([page])


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def pages(place: Place) -> dict[str, dict[str, Any]]:
    """Each model as JSON: of the configuration where it is known, with the live state over it when a gateway runs."""
    from ilaas.cli.place import live_state

    state = live_state(place)
    found = configured(place)
    if state is None:
        say("No gateway runs here: this is what is configured.")
        return found
    live = {model["model"]: model for model in state["models"]}
    return {name: {**found.get(name, {}), **model, "servers": _servers(found, model)} for name, model in live.items()}


def _servers(found: Mapping[str, Any], model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The live state of each server over what is configured of it."""
    configured_of = {server["id"]: server for server in found.get(model["model"], {}).get("servers", ())}
    return [{**configured_of.get(server["id"], {}), **server} for server in model["servers"]]


def configured(place: Place) -> dict[str, dict[str, Any]]:
    """The models of the file, with servers added at run time and drain marks."""
    from ilaas.cli.place import Office, work
    from ilaas.services.reconcile import merge

    if not place.configured:
        return {}

    async def job(office: Office) -> tuple[Any, Any]:
        return await office.store.servers(), await office.store.draining()

    stored, draining = work(place, job) if place.has_store else ((), frozenset())
    return {
        model.name: {
            "model": model.name,
            "aliases": list(model.aliases),
            "category": model.category.value,
            "lifecycle": model.lifecycle.value,
            "retires_on": model.retires_on,
            "context_window": model.context_window,
            "tool_calling": model.tool_calling,
            "vision": model.vision,
            "description": model.description,
            "organisations": None if model.organisations is None else sorted(model.organisations),
            "strategy": model.policy.strategy.value,
            "servers": [
                {
                    "id": server.id,
                    "url": server.url,
                    "site": server.site,
                    "owner": server.owner,
                    "engine": server.engine.value,
                    "state": "draining" if server.draining else "configured",
                    "from_file": server.from_file,
                    "spot": server.spot,
                }
                for server in model.servers
            ],
        }
        for model in merge(place.settings.models, stored, draining).models.values()
    }


def print_servers(found: list[dict[str, Any]]) -> None:
    """The servers of some models, a line each."""
    print_table(
        (
            *("server", "model", "site", "owner", "engine", "spot", "state"),
            *("in flight", "limit", "TTFT (s)", "served", "failed"),
        ),
        (
            (
                *(server["id"], page["model"], server["site"], server["owner"], server["engine"]),
                *("yes" if server.get("spot") else None, server["state"]),
                *(server.get(field) for field in ("in_flight", "limit", "ttft_s", "served", "failed")),
            )
            for page in found
            for server in page["servers"]
        ),
        "No server.",
    )
