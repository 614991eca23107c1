"""Language models through the gateway's `/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ilaas.adapters.gateway_calls import GatewayCalls, ServerRefused
from ilaas.core.errors import IlaasError, UpstreamInvalid
from ilaas.ports.completion import Completed, CompletionTask
from ilaas.ports.speech import Billed

_SCHEMA, _OBJECT, _TEXT = range(3)
"""How an answer's form is asked for, the best way first."""


class OpenAiCompletion:
    """Asks for a JSON schema; servers that don't know it are asked in a simpler way from then on."""

    def __init__(self, calls: GatewayCalls, model: str, billed_to_look: Billed | None = None) -> None:
        """`model` is the service's own; `billed_to_look` is whose key asks what a model can do."""
        self._calls = calls
        self._model = model
        self._billed = billed_to_look
        self._ways: dict[str, int] = {}
        self._windows: dict[str, int | None] = {}

    async def complete(self, task: CompletionTask) -> Completed:
        """As `ports.completion.Completion`."""
        model = task.model or self._model
        self._billed = self._billed or task.billed
        while True:
            way = self._ways.get(model, _SCHEMA) if task.schema is not None else _TEXT
            try:
                body = _body(task, model, way)
                tree = await self._calls.post("/v1/chat/completions", task.billed, partial(dict, json=body))
                return _completed(tree, model)
            except ServerRefused as error:
                if task.schema is None or way == _TEXT or not _is_of_format(error):
                    raise
                self._ways[model] = way + 1

    async def context_tokens(self, model: str | None) -> int | None:
        """As the gateway's catalogue says."""
        name = model or self._model
        if name not in self._windows and self._billed is not None:
            try:
                page = await self._calls.get(f"/v1/models/{name}", self._billed)
            except IlaasError:
                return None  # the request itself will tell what is wrong with the model
            window = page.get("context_window")
            self._windows[name] = window if isinstance(window, int) and window > 0 else None
        return self._windows.get(name)

    async def close(self) -> None:
        """Let go of every connection."""
        await self._calls.close()


def _body(task: CompletionTask, model: str, way: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": each.role, "content": each.content} for each in task.messages],
        "temperature": task.temperature,
    }
    if task.max_tokens is not None:
        body["max_tokens"] = task.max_tokens
    if way == _SCHEMA:
        schema = {"name": task.schema_name, "schema": task.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif way == _OBJECT:
        body["response_format"] = {"type": "json_object"}
    return body


def _is_of_format(error: ServerRefused) -> bool:
    text = error.words.lower()
    return any(word in text for word in ("response_format", "json_schema", "schema", "grammar", "guided", "structured"))


def _completed(tree: Mapping[str, Any], model: str) -> Completed:
    try:
        choice = tree["choices"][0]
        text = choice["message"].get("content") or ""
        usage = tree.get("usage") or {}
        return Completed(
            text=str(text),
            model=str(tree.get("model") or model),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            finish_reason=choice.get("finish_reason"),
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UpstreamInvalid("The language model's answer has no 'choices' with a message.") from error
