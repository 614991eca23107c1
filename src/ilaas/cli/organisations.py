"""`ilaas organisation`: who takes part, under which agreement, with which weight and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.governing import LimitOptions, all_pages, govern, shown_limits, with_limits
from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples
from ilaas.cli.output import print_json, print_table, say
from ilaas.core.quota.limits import Limits
from ilaas.core.tenancy import Agreement, Organisation, OrganisationKind

if TYPE_CHECKING:
    from ilaas.core.rights import Caller
    from ilaas.services.governance import Governance

app = typer.Typer(
    name="organisation",
    help="Organisations: list, show, add, set. A running gateway takes changes over within a second.",
    epilog=examples("ilaas organisation add univ-angers --weight 2", "ilaas organisation list"),
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name, as in keys and reports.")]
Kind = Annotated[OrganisationKind | None, typer.Option(help="Member of the federation, or partner by agreement.")]
Weight = Annotated[float | None, typer.Option(help="Its share when a model is saturated; 1 is the usual one.")]
Contributor = Annotated[bool | None, typer.Option(help="Whether it gives servers.")]
Consumer = Annotated[bool | None, typer.Option(help="Whether its keys may send requests.")]
From = Annotated[str | None, typer.Option("--agreement-from", metavar="DATE", help="First day of its agreement.")]
To = Annotated[str | None, typer.Option("--agreement-to", metavar="DATE", help="Last day; 'none' for no end.")]
Document = Annotated[str | None, typer.Option("--agreement-link", metavar="URL", help="Where the document is.")]
ModelLimit = Annotated[
    list[str] | None,
    typer.Option(metavar="MODEL:NAME=NUMBER", help="The same for one model as used by this organisation."),
]


@app.command(name="list", epilog=examples("ilaas organisation list", "ilaas organisation list --json"))
def list_(*, as_json: AsJson = False, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """List organisations."""
    from ilaas.services.governance.views import organisation_view

    async def job(governance: Governance, caller: Caller) -> list[Organisation]:
        return await all_pages(lambda request: governance.organisations.page(caller, request))

    found = govern(state_dir, config, job)
    if as_json:
        print_json([organisation_view(each) for each in found])
        return
    print_table(
        ("name", "kind", "contributor", "consumer", "weight", "agreement ends", "limits"),
        (
            (
                each.name,
                each.kind.value,
                "yes" if each.contributor else "no",
                "yes" if each.consumer else "no",
                each.weight,
                each.agreement.ends_on,
                shown_limits(each.limits),
            )
            for each in found
        ),
        "No organisation. Add one with 'ilaas organisation add'.",
    )


@app.command(epilog=examples("ilaas organisation show univ-angers"))
def show(name: Name, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """Show one organisation, as JSON."""
    from ilaas.services.governance.views import organisation_view

    async def job(governance: Governance, caller: Caller) -> Organisation:
        return await governance.organisations.get(caller, name)

    print_json(organisation_view(govern(state_dir, config, job)))


@app.command(
    epilog=examples(
        "ilaas organisation add univ-angers --weight 2 --limit tokens-per-day=5000000",
        "ilaas organisation add inria --kind partner --agreement-to 2028-12-31",
        "ilaas organisation add cnam --model-limit mistral:requests-per-minute=60",
    )
)
def add(
    *,
    name: Name,
    kind: Kind = None,
    weight: Weight = None,
    contributor: Contributor = None,
    consumer: Consumer = None,
    limit: LimitOptions = None,
    model_limit: ModelLimit = None,
    agreement_from: From = None,
    agreement_to: To = None,
    agreement_link: Document = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Add an organisation."""
    new = _changed(Organisation(name=name), kind, weight, contributor, consumer)
    new = _with_agreement(new, agreement_from, agreement_to, agreement_link)
    new = replace(
        new, limits=with_limits(new.limits, limit), model_limits=_with_model_limits(new.model_limits, model_limit)
    )

    async def job(governance: Governance, caller: Caller) -> None:
        await governance.organisations.create(caller, new)

    govern(state_dir, config, job, new=True)
    say(f"Added '{name}'.")


@app.command(
    name="set",
    epilog=examples(
        "ilaas organisation set univ-angers --weight 3",
        "ilaas organisation set univ-angers --no-consumer --limit tokens-per-day=none",
    ),
)
def set_(
    *,
    name: Name,
    kind: Kind = None,
    weight: Weight = None,
    contributor: Contributor = None,
    consumer: Consumer = None,
    limit: LimitOptions = None,
    model_limit: ModelLimit = None,
    agreement_from: From = None,
    agreement_to: To = None,
    agreement_link: Document = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Change an organisation; what is not named stays."""

    async def job(governance: Governance, caller: Caller) -> None:
        old = await governance.organisations.get(caller, name)
        new = _changed(old, kind, weight, contributor, consumer)
        new = _with_agreement(new, agreement_from, agreement_to, agreement_link)
        limits, of_models = with_limits(new.limits, limit), _with_model_limits(new.model_limits, model_limit)
        await governance.organisations.change(caller, replace(new, limits=limits, model_limits=of_models), "*")

    govern(state_dir, config, job)
    say(f"Set '{name}'.")


def _changed(
    old: Organisation,
    kind: OrganisationKind | None,
    weight: float | None,
    contributor: bool | None,
    consumer: bool | None,
) -> Organisation:
    return replace(
        old,
        kind=old.kind if kind is None else kind,
        weight=old.weight if weight is None else weight,
        contributor=old.contributor if contributor is None else contributor,
        consumer=old.consumer if consumer is None else consumer,
    )


def _with_agreement(old: Organisation, first: str | None, last: str | None, link: str | None) -> Organisation:
    from datetime import date

    def day(text: str, option: str) -> date | None:
        if text == "none":
            return None
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise typer.BadParameter(f"'{text}' is not a date such as 2028-12-31", param_hint=f"'{option}'") from None

    agreement = old.agreement
    try:
        changed = Agreement(
            starts_on=agreement.starts_on if first is None else day(first, "--agreement-from"),
            ends_on=agreement.ends_on if last is None else day(last, "--agreement-to"),
            document_url=agreement.document_url if link is None else link,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--agreement-to'") from None
    return replace(old, agreement=changed)


def _with_model_limits(old: Mapping[str, Limits], given: list[str] | None) -> dict[str, Limits]:
    found = dict(old)
    for text in given or ():
        name, equals, value = text.partition("=")
        model, colon, limit = name.rpartition(":")
        if not (equals and colon and model):
            raise typer.BadParameter(f"'{text}' is not MODEL:NAME=NUMBER", param_hint="'--model-limit'")
        found[model] = with_limits(found.get(model, Limits()), [f"{limit}={value}"])
        if not found[model]:
            del found[model]
    return found
