"""`ilaas weight`: the shares of organisations when a model is saturated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples
from ilaas.cli.output import print_json, print_table, say
from ilaas.cli.settle import settle

if TYPE_CHECKING:
    from ilaas.services.settlement import Settlement

app = typer.Typer(name="weight", help="Shares of organisations when a model is saturated.", no_args_is_help=True)


@app.command(name="list", epilog=examples("ilaas weight list"))
def weights(*, as_json: AsJson = False, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """List the weights in force, where they come from, and what the formula gives today."""
    from ilaas.services.settlement import WeightLine

    async def job(settlement: Settlement, _actor: str) -> Sequence[WeightLine]:
        return await settlement.weights()

    found = settle(job, state_dir, config)
    if as_json:
        print_json(list(found))
        return
    columns = ("organisation", "weight", "source", "formula", "tokens contributed", "tokens consumed")
    rows = [
        (
            *(each.organisation, each.weight, each.source, each.formula.weight),
            *(each.formula.contributed_tokens, each.formula.consumed_tokens),
        )
        for each in found
    ]
    print_table(columns, rows, "No organisation.")


@app.command(epilog=examples("ilaas weight refresh"))
def refresh(*, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """Set the weights by the formula, from the last 90 days; those set by hand stay."""
    from ilaas.core.fairness import FairWeight

    async def job(settlement: Settlement, actor: str) -> Sequence[FairWeight]:
        return await settlement.refresh_weights(actor=actor)

    rows = [(each.organisation, each.weight) for each in settle(job, state_dir, config)]
    print_table(("organisation", "new weight"), rows, "Nothing has changed.")


@app.command(name="set", epilog=examples("ilaas weight set 'Université de Lille' 2.5"))
def set_weight(
    organisation: Annotated[str, typer.Argument(help="Its name.")],
    value: Annotated[float, typer.Argument(help="Above 0; 1 is the default.")],
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Set a weight by hand: the formula leaves it alone from then on."""

    async def job(settlement: Settlement, actor: str) -> None:
        await settlement.set_weight(organisation, value, actor=actor)
        say(f"{organisation} has the weight {value}, by hand.")

    settle(job, state_dir, config)


@app.command(epilog=examples("ilaas weight unset 'Université de Lille'"))
def unset(
    organisation: Annotated[str, typer.Argument(help="Its name.")],
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Leave a weight to the configuration, or at the next refresh to the formula."""

    async def job(settlement: Settlement, actor: str) -> None:
        await settlement.unset_weight(organisation, actor=actor)
        say(f"The weight of {organisation} is no longer set.")

    settle(job, state_dir, config)
