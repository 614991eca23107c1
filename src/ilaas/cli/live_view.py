"""How a running federation looks in a terminal: what `GET /state` says, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

State = Mapping[str, Any]

_STATE_STYLE = {
    "available": "green",
    "up": "green",
    "busy": "yellow",
    "probing": "yellow",
    "draining": "cyan",
    "unavailable": "bold red",
    "down": "bold red",
}
_CLASSES = ("owner", "interactive", "batch")
_LEFT = ("client_left_queue", "client_left_prefill", "client_left_decode")
_REFUSED = (
    "refused_busy",
    "refused_queue_full",
    "refused_no_server",
    "queue_timeout",
    "rejected_quota",
    "upstream_busy",
    "upstream_rejected",
)
_BAR_WIDTH = 6
_WIDE = 90
"""Narrower terminals do without owner, engine and bars."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What went through per second, between two states."""

    requests_per_s: float = 0.0
    tokens_per_s: float = 0.0
    """Of answers, counted when an answer ends."""

    @classmethod
    def between(cls, before: State, after: State, seconds: float) -> Rates:
        """The rates of a period; nothing when counters fell, which means that the gateway began anew."""
        requests, tokens = _finished(after) - _finished(before), _completion(after) - _completion(before)
        if seconds <= 0 or requests < 0 or tokens < 0:
            return cls()
        return cls(requests / seconds, tokens / seconds)


def render(state: State, width: int, rates: Rates | None = None, height: int | None = None) -> RenderableType:
    """The whole view as tables, `width` columns wide; where it has more lines than `height`, calm servers are left out.

    What needs a look stays: models that are not available or queue, servers that are not up or failed.
    """
    shown, left_out = _fitting(state.get("models", ()), None if height is None else height - _frame_lines(state))
    more = [Text(f"  {left_out}: not shown on a screen of this height", style="dim")] if left_out else []
    return Group(
        _header(state, rates or Rates()),
        _names(width),
        *(_model(model, width) for model in shown),
        *more,
        Rule(style="bright_black"),
        _requests(state, width),
    )


def _frame_lines(state: State) -> int:
    """Lines around the models: header, names, rule, the table of requests, and the one that says what is left out."""
    return 5 + len(_CLASSES) + 1 + bool(sum(state.get("rejected", {}).values()))


def _fitting(models: Sequence[State], lines: int | None) -> tuple[list[State], str]:
    """Models as they fit into so many lines, and what of them does not, in words."""
    if lines is None or sum(1 + max(1, len(model["servers"])) for model in models) <= lines:
        return list(models), ""
    ordered = sorted(models, key=_calm)
    shown: list[State] = []
    servers = 0
    for model in ordered:
        if lines < 2:
            servers += len(model["servers"])
            continue
        kept = sorted(model["servers"], key=lambda server: server["state"] == "up" and not server["failed"])
        kept = kept[: lines - 1]
        servers += len(model["servers"]) - len(kept)
        lines -= 1 + max(1, len(kept))
        shown.append({**model, "servers": kept})
    hidden = len(ordered) - len(shown)
    words = [
        f"{count} {name}{'s' if count > 1 else ''}" for count, name in ((hidden, "model"), (servers, "server")) if count
    ]
    return shown, " and ".join(words)


def _calm(model: State) -> bool:
    queued = sum(model["queued"].values())
    return model["state"] == "available" and not queued and all(each["state"] == "up" for each in model["servers"])


def plain_line(state: State, rates: Rates) -> str:
    """The view in one line, for logs and pipes."""
    models = state.get("models", ())
    servers = [server for model in models for server in model["servers"]]
    up = sum(1 for server in servers if server["state"] == "up")
    queued = sum(sum(model["queued"].values()) for model in models)
    running = sum(model["running"] for model in models)
    return (
        f"active {state.get('active', 0)}  queued {queued}  running {running}  servers up {up}/{len(servers)}  "
        f"finished {_finished(state)}  {rates.requests_per_s:.1f} requests/s  {rates.tokens_per_s:.0f} tokens/s"
    )


# -- the parts of the view ---------------------------------------------------------------------------------------------


def _header(state: State, rates: Rates) -> RenderableType:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("ilaas ", style="bold")
    text.append(str(state.get("version", "")), style="dim")
    for value, unit in (
        (_duration(state.get("uptime_s", 0.0)), "up"),
        (str(state.get("active", 0)), "active"),
        (f"{rates.requests_per_s:.1f}", "requests/s"),
        (f"{rates.tokens_per_s:,.0f}".replace(",", " "), "tokens/s"),
    ):
        text.append("   ")
        text.append(value, style="bold cyan")
        text.append(f" {unit}", style="dim")
    return text


def _columns(width: int) -> Table:
    """An empty table whose columns stand in the same places for every model."""
    table = _table(width)
    table.add_column("  server", ratio=6, no_wrap=True)
    table.add_column("site", ratio=3, no_wrap=True)
    if width >= _WIDE:
        table.add_column("owner", ratio=3, no_wrap=True)
        table.add_column("engine", width=8)
    table.add_column("state", width=8)
    table.add_column("in flight", width=_BAR_WIDTH + 8 if width >= _WIDE else 9, no_wrap=True)
    for name, wide in (("wait", 4), ("KV", 4), ("TTFT", 6), ("served", 6), ("failed", 6)):
        table.add_column(name, justify="right", width=wide, no_wrap=True)
    return table


def _names(width: int) -> RenderableType:
    table = _columns(width)
    table.show_header = True
    return table


def _model(model: State, width: int) -> RenderableType:
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(f"{model['model']} ", style="bold")
    title.append(str(model["state"]), style=_STATE_STYLE.get(model["state"], ""))
    title.append("  queued", style="dim")
    for name in _CLASSES:
        count = model["queued"].get(name, 0)
        title.append(f" {name} ", style="dim")
        title.append(str(count), style="bold yellow" if count else "")
    title.append("  wait ", style="dim")
    title.append(_seconds(model["predicted_wait_s"]), style="bold")
    title.append(f"  {model['strategy']}", style="dim")
    table = _columns(width)
    for server in model["servers"]:
        table.add_row(*_server(server, width))
    body: RenderableType = table if model["servers"] else Text("  no server", style="bold red")
    return Group(Rule(title, align="left", style="bright_black"), body)


def _server(server: State, width: int) -> list[RenderableType]:
    failed = server["failed"]
    more = [Text(str(server["owner"]), style="dim"), Text(str(server["engine"]), style="dim")] if width >= _WIDE else []
    kv = server["kv_cache_usage"]
    waiting = server["waiting"]
    return [
        Text(f"  {server['id']}", overflow="ellipsis"),
        Text(str(server["site"]), style="dim"),
        *more,
        Text(str(server["state"]), style=_STATE_STYLE.get(server["state"], "")),
        _bar(server["in_flight"], server["limit"], short=width < _WIDE),
        Text("-" if waiting is None else str(waiting), style="yellow" if waiting else "dim"),
        Text("-" if kv is None else f"{kv:.0%}", style=_heat(kv)),
        _seconds(server["ttft_s"]),
        _count(server["served"]),
        Text(_count(failed), style="red" if failed else "dim"),
    ]


def _bar(value: int, limit: int | None, *, short: bool) -> Text:
    numbers = f"{value}/{'∞' if limit is None else limit}"
    if short:
        return Text(numbers)
    if limit is None:
        return Text(f"{' ' * _BAR_WIDTH} {numbers}")
    share = min(1.0, value / limit) if limit else 0.0
    filled = max(1, round(share * _BAR_WIDTH)) if value else 0
    text = Text("━" * filled, style=_heat(share))
    text.append("━" * (_BAR_WIDTH - filled), style="bright_black")
    text.append(f" {numbers}", style="default")
    return text


def _requests(state: State, width: int) -> RenderableType:
    rows = {name: dict.fromkeys(("completed", "left", "refused", "failed"), 0) for name in _CLASSES}
    for line in state.get("requests", ()):
        row = rows.setdefault(str(line["class"]), dict.fromkeys(("completed", "left", "refused", "failed"), 0))
        row[_group(str(line["outcome"]))] += line["count"]
    table = _table(min(width, 72))
    table.show_header = True
    table.add_column("requests", ratio=2)
    for name in ("completed", "client left", "refused", "failed"):
        table.add_column(name, justify="right", ratio=1)
    for name, row in rows.items():
        table.add_row(
            name,
            Text(_count(row["completed"]), style="green" if row["completed"] else "dim"),
            Text(_count(row["left"]), style="" if row["left"] else "dim"),
            Text(_count(row["refused"]), style="yellow" if row["refused"] else "dim"),
            Text(_count(row["failed"]), style="red" if row["failed"] else "dim"),
        )
    rejected = sum(state.get("rejected", {}).values())
    if rejected:
        table.add_row(Text("before the queue", style="dim"), "", "", Text(_count(rejected), style="yellow"), "")
    return table


def _group(outcome: str) -> str:
    if outcome == "completed":
        return "completed"
    if outcome in _LEFT:
        return "left"
    return "refused" if outcome in _REFUSED or outcome.startswith("rejected") else "failed"


def _table(width: int) -> Table:
    return Table(
        box=None, show_header=False, width=width, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", expand=True
    )


def _heat(share: float | None) -> str:
    if share is None:
        return "dim"
    return "red" if share >= 0.95 else "yellow" if share >= 0.8 else "green"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 100 else _duration(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d}" if hours else f"{minutes}:{rest:02d}"


def _count(value: int) -> str:
    return str(value) if value < 100_000 else f"{value / 1000:.0f} k"


def _finished(state: State) -> int:
    return sum(line["count"] for line in state.get("requests", ()))


def _completion(state: State) -> int:
    return sum(line["completion"] for line in state.get("tokens", ()))
