"""What `/v1/models` tells: OpenAI's fields, and ours beside them. From memory, never waiting on a site."""

from __future__ import annotations

from typing import Any

from ilaas.core.catalogue import ModelSpec
from ilaas.core.impact_views import per_1k_json
from ilaas.core.tenancy import Key
from ilaas.core.values import Category
from ilaas.ports.broker import Broker
from ilaas.services.admission import Admission
from ilaas.services.impacts import Impacts

_ENDPOINTS = {
    Category.EMBEDDING: ("embeddings",),
    Category.RERANKING: ("rerank", "score"),
    Category.TRANSCRIPTION: ("audio.transcriptions", "audio.translations"),
    Category.SPEECH: ("audio.speech",),
}
_GENERATES = ("chat.completions", "completions")


class ModelPages:
    """The models a key may use, as JSON objects."""

    def __init__(self, admission: Admission, broker: Broker, created_s: int, impacts: Impacts | None = None) -> None:
        """`created_s`: epoch seconds, which OpenAI's clients want of each model."""
        self._impacts = impacts or Impacts()
        self._admission = admission
        self._broker = broker
        self._created_s = created_s

    def all(self, key: Key) -> list[dict[str, Any]]:
        """Every model that the key may use."""
        return [self._page(model) for model in self._admission.models(key)]

    def one(self, key: Key, name: str) -> dict[str, Any]:
        """One model by name or alias. Raises ModelNotFound."""
        return self._page(self._admission.model(key, name))

    def _page(self, model: ModelSpec) -> dict[str, Any]:
        view = self._broker.view(model.name)
        windows = [server.context_window for server in model.servers if server.context_window]
        window = model.context_window or (max(windows) if windows else None)
        return {
            "id": model.name,
            "object": "model",
            "created": self._created_s,
            "owned_by": model.name,
            "max_model_len": window,
            "context_window": window,
            "category": model.category,
            "lifecycle": model.lifecycle,
            "retires_on": model.retires_on,
            "description": model.description,
            "aliases": list(model.aliases),
            "capabilities": {
                "tool_calling": model.tool_calling,
                "vision": model.vision,
                "endpoints": list(_ENDPOINTS.get(model.category, _GENERATES)),
            },
            "quantisations": sorted({server.quantisation for server in model.servers if server.quantisation}),
            "sites": sorted({server.site for server in model.servers}),
            "state": view.state if view is not None else "unavailable",
            "predicted_wait_s": round(view.predicted_wait_s, 1) if view is not None else None,
            "impact": per_1k_json([self._impacts.factors(model.name, server.id) for server in model.servers]),
        }
