"""Who asks, and what they may use: key, model, rights. Everything is in memory; nothing here waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ilaas.core import keys
from ilaas.core.catalogue import ModelSpec
from ilaas.core.errors import Forbidden, ModelNotFound, Unauthenticated
from ilaas.core.tenancy import Key
from ilaas.core.values import Lifecycle, RequestClass, RoutingMode
from ilaas.services.registry import Registry

_HOW = "Send the header 'Authorization: Bearer ilaas-…' with a key of your organisation."


class Admission:
    """Turns headers into a Key and a model name into a model the key may use."""

    def __init__(self, registry: Registry, epoch: Callable[[], float]) -> None:
        """`epoch` gives epoch seconds, for expiry."""
        self._registry = registry
        self._epoch = epoch

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Key:
        """The live key behind the Authorization header. Raises Unauthenticated, or Forbidden for a closed project."""
        key = self._live_key(headers)
        if self._registry.restricted and (reason := self._registry.closed_to(key)):
            raise Forbidden(reason)
        return key

    def _live_key(self, headers: Mapping[bytes, bytes]) -> Key:
        header = headers.get(b"authorization")
        if header is None:
            raise Unauthenticated(f"No key was given. {_HOW}")
        scheme, _, presented = header.partition(b" ")
        presented = presented.strip()
        if scheme.lower() != b"bearer" or not presented:
            raise Unauthenticated(f"The Authorization header is not of the Bearer form. {_HOW}")
        key = self._registry.find_key(presented)
        if key is None:
            if keys.is_mistyped(presented.decode("latin-1")):
                raise Unauthenticated("The key is mistyped: its checksum is wrong. Copy it again, whole.")
            raise Unauthenticated("The key is not known. Ask your project's manager for a valid one.")
        if key.expires_at_s is None and key.revoked_at_s is None:
            return key
        now = self._epoch()
        if key.revoked_at_s is not None and now >= key.revoked_at_s:
            raise Unauthenticated("The key was revoked. Ask your project's manager for a new one.")
        if key.expires_at_s is not None and now >= key.expires_at_s:
            raise Unauthenticated("The key has expired. Ask your project's manager for a new one.")
        return key

    def model(self, key: Key, name: str) -> ModelSpec:
        """The model of that name or alias. Raises ModelNotFound with near names; also when the key may not see it."""
        model = self._registry.catalogue.by_name.get(name)
        if model is not None and self._may_use(key, model):
            return model
        near = self._near(key, name)
        if near:
            hint = " Did you mean " + " or ".join(f"'{candidate}'" for candidate in near) + "?"
        else:
            hint = " GET /v1/models lists those you may use."
        raise ModelNotFound(f"The model '{name[:100]}' does not exist or is not open to your key.{hint}", param="model")

    def _near(self, key: Key, name: str) -> list[str]:
        """Public names of models that have a name like it, aliases and what follows a slash in them included."""
        meant: dict[str, str] = {}
        for model in self.models(key):
            for spelling in (model.name, *model.aliases):
                meant.setdefault(spelling, model.name)
                meant.setdefault(spelling.rpartition("/")[2], model.name)
        near = self._registry.catalogue.near(name, meant)
        return list(dict.fromkeys(meant[spelling] for spelling in near))

    def models(self, key: Key) -> list[ModelSpec]:
        """All models the key may use, in the catalogue's order."""
        return [model for model in self._registry.catalogue.models.values() if self._may_use(key, model)]

    def _may_use(self, key: Key, model: ModelSpec) -> bool:
        if key.models is not None and model.name not in key.models:
            return False
        if self._registry.restricted:
            models = self._registry.project_models(key)
            if models is not None and model.name not in models:
                return False
        if model.organisations is None:
            return model.lifecycle is not Lifecycle.STAGING
        return key.organisation in model.organisations

    @staticmethod
    def check_wishes(key: Key, model: ModelSpec, wanted: RequestClass, mode: RoutingMode) -> None:
        """Raises Forbidden when the key may not use the class, InvalidRequest-like 400 for a mode without servers."""
        if wanted not in key.classes:
            allowed = ", ".join(sorted(key.classes))
            raise Forbidden(f"This key may not send '{wanted}' requests, only: {allowed}.", param="X-Ilaas-Class")
        if mode is not RoutingMode.ANY and not any(server.owner == key.organisation for server in model.servers):
            raise PrivateUnavailable(
                f"Your organisation ({key.organisation}) provides no server of the model '{model.name}': the routing "
                f"mode '{mode}' can't be used; use 'any'.",
                param="routing-mode",
            )


class PrivateUnavailable(Forbidden):
    """A private routing mode was asked for by an organisation that has no server of the model (today's 400)."""

    code = "no_own_server"
    status = 400
    type = "invalid_request_error"
