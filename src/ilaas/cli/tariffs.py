"""`ilaas tariff`: what the use of models costs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples
from ilaas.cli.output import print_json, print_table, say
from ilaas.cli.settle import settle

if TYPE_CHECKING:
    from ilaas.core.billing import Rates
    from ilaas.services.settlement import Settlement

Euros = Annotated[str | None, typer.Option(metavar="EUR")]

app = typer.Typer(name="tariff", help="What the use of models costs.", no_args_is_help=True)


@app.command(
    name="set",
    epilog=examples(
        "ilaas tariff set mistral-small --from 2026-10-01 --prompt 0.20 --completion 0.60 --cached 0.05",
        "ilaas tariff set whisper-large-v3 --from 2026-10-01 --audio-hour 0.36",
        "ilaas tariff set mistral-small --from 2027-01-01 --end-previous --prompt 0.18 --credit-prompt 0.15",
    ),
)
def set_(
    model: Annotated[str, typer.Argument(help="The model's public name.")],
    first: Annotated[str, typer.Option("--from", help="First day (UTC), today or later.", metavar="YYYY-MM-DD")],
    last: Annotated[str | None, typer.Option("--to", help="Last day, included.", metavar="YYYY-MM-DD")] = None,
    *,
    prompt: Annotated[str | None, typer.Option(help="Euros per million prompt tokens.", metavar="EUR")] = None,
    completion: Annotated[str | None, typer.Option(help="Euros per million completion tokens.", metavar="EUR")] = None,
    cached: Annotated[
        str | None, typer.Option(help="Euros per million cached prompt tokens; else as --prompt.", metavar="EUR")
    ] = None,
    request: Annotated[str | None, typer.Option(help="Euros per request.", metavar="EUR")] = None,
    audio_hour: Annotated[str | None, typer.Option(help="Euros per hour of audio.", metavar="EUR")] = None,
    credit_prompt: Annotated[
        str | None, typer.Option(help="What contributors are credited, where it differs.", metavar="EUR")
    ] = None,
    credit_completion: Euros = None,
    credit_cached: Euros = None,
    credit_request: Euros = None,
    credit_audio_hour: Euros = None,
    end_previous: Annotated[
        bool, typer.Option("--end-previous", help="End the tariff in force the day before this one begins.")
    ] = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Set what a model costs from a day on. Requests keep the price they had when they were made."""
    from ilaas.core.billing import Tariff

    charged = {"prompt": prompt, "completion": completion, "cached": cached, "request": request, "audio": audio_hour}
    credited = {
        "prompt": credit_prompt,
        "completion": credit_completion,
        "cached": credit_cached,
        "request": credit_request,
        "audio": credit_audio_hour,
    }
    if all(value is None for value in charged.values()):
        raise typer.BadParameter("give at least one of --prompt, --completion, --cached, --request, --audio-hour")
    try:
        new = Tariff(
            model=model,
            valid_from=_day(first, "--from"),
            valid_to=None if last is None else _day(last, "--to"),
            rates=_rates(charged),
            credit=_rates(credited) if any(value is not None for value in credited.values()) else None,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    async def job(settlement: Settlement, actor: str) -> None:
        ended = await settlement.set_tariff(new, end_previous=end_previous, actor=actor)
        if ended is not None:
            say(f"The tariff from {ended.valid_from} ends on {ended.valid_to}.")
        say(f"{model} costs this from {new.valid_from} on{f', to {new.valid_to}' if new.valid_to else ''}.")

    settle(job, state_dir, config)


@app.command(name="list", epilog=examples("ilaas tariff list", "ilaas tariff list --json"))
def list_(*, as_json: AsJson = False, state_dir: StateDir = None, config: ConfigFile = None) -> None:
    """List tariffs, in euros per million tokens, per request and per hour of audio."""
    from ilaas.core.billing import Tariff

    async def job(settlement: Settlement, _actor: str) -> Sequence[Tariff]:
        return await settlement.tariffs()

    found = settle(job, state_dir, config)
    if as_json:
        print_json(list(found))
        return

    def row(rates: Rates) -> tuple[str, ...]:
        cached = rates.prompt_per_million if rates.cached_per_million is None else rates.cached_per_million
        values = (rates.prompt_per_million, rates.completion_per_million, cached, rates.per_request)
        return tuple(_rate(value) for value in (*values, rates.audio_per_hour))

    rows: list[tuple[object, ...]] = []
    for each in found:
        rows.append((each.model, each.valid_from, each.valid_to, *row(each.rates)))
        if each.credit is not None:
            rows.append(("  credited", None, None, *row(each.credit)))
    columns = ("model", "from", "to", "prompt", "completion", "cached", "request", "audio hour")
    print_table(columns, rows, "No tariff: all use is free. Set one with 'ilaas tariff set'.")


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a day such as 2026-10-01", param_hint=f"'{option}'") from None


def _rates(euros: dict[str, str | None]) -> Rates:
    from ilaas.core.billing import Rates

    micro = {name: None if value is None else _micro(value, name) for name, value in euros.items()}
    return Rates(
        prompt_per_million=micro["prompt"] or 0,
        completion_per_million=micro["completion"] or 0,
        cached_per_million=micro["cached"],
        per_request=micro["request"] or 0,
        audio_per_hour=micro["audio"] or 0,
    )


def _micro(text: str, name: str) -> int:
    """Micro-euros of `0.20` or `0,20`, exactly."""
    try:
        value = Decimal(text.replace(",", ".")) * 1_000_000
        if value != value.to_integral_value() or value < 0:
            raise InvalidOperation
    except InvalidOperation:
        raise typer.BadParameter(f"'{text}' for {name} is not an amount of euros such as 0.20") from None
    return int(value)


def _rate(micro_eur: int) -> str:
    return f"{Decimal(micro_eur) / 1_000_000:.6f}".rstrip("0").rstrip(".") or "0"
