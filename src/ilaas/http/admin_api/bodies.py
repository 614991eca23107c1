"""What clients may send. A field that is not named here is refused, so that nothing can be set by the way."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, model_validator

from ilaas.core.people import Role, RoleGrant
from ilaas.core.quota.limits import Limits
from ilaas.core.tenancy import Agreement, OrganisationKind
from ilaas.core.values import Engine, RequestClass, RoutingMode

Name = Annotated[str, Field(min_length=1, max_length=255)]
Link = Annotated[str, Field(min_length=1, max_length=2000)]
Amount = Annotated[int, Field(strict=True, ge=0, le=10**15)]
Priority = Annotated[int, Field(strict=True, ge=-1000, le=1000)]
Weight = Annotated[float, Field(strict=True, gt=0, le=1000, allow_inf_nan=False)]
Models = Annotated[list[Name], Field(max_length=500)]
Slots = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Askable = Annotated[list[RequestClass], Field(min_length=1, max_length=2)]

NOT_GIVEN: Any = None
"""The default of a field of a PATCH that can't be null: it is never read, `given` leaves the field out."""


class Body(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    def given(self) -> dict[str, Any]:
        """The fields that the client sent, by name."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class LimitsBody(Body):
    """Limits; one that is left out does not limit. Tokens are prompt and answer together."""

    requests_per_minute: Amount | None = None
    tokens_per_minute: Amount | None = None
    tokens_per_day: Amount | None = None
    tokens_per_month: Amount | None = None
    simultaneous_requests: Amount | None = None
    budget_micro_eur_per_month: Amount | None = Field(default=None, description="1,000,000 is one euro")

    def value(self) -> Limits:
        """As the core has them."""
        return Limits(**self.model_dump())


class AgreementBody(Body):
    """What was signed. Shown, not enforced."""

    starts_on: date | None = None
    ends_on: date | None = None
    document_url: Link | None = None

    @model_validator(mode="after")
    def _in_order(self) -> AgreementBody:
        self.value()
        return self

    def value(self) -> Agreement:
        """As the core has it. Raises ValueError when it ends before it starts."""
        return Agreement(starts_on=self.starts_on, ends_on=self.ends_on, document_url=self.document_url)


ModelLimits = Annotated[dict[Name, LimitsBody], Field(max_length=500)]


class OrganisationChange(Body):
    """What of an organisation changes; `limits`, `model_limits` and `agreement` are replaced whole."""

    kind: OrganisationKind = NOT_GIVEN
    contributor: StrictBool = NOT_GIVEN
    consumer: StrictBool = NOT_GIVEN
    weight: Weight = NOT_GIVEN
    agreement: AgreementBody = NOT_GIVEN
    limits: LimitsBody = NOT_GIVEN
    model_limits: ModelLimits = NOT_GIVEN

    def changes(self) -> dict[str, Any]:
        """For `dataclasses.replace`."""
        found = self.given()
        for name in {"agreement", "limits"} & found.keys():
            found[name] = found[name].value()
        if "model_limits" in found:
            found["model_limits"] = {model: limits.value() for model, limits in found["model_limits"].items()}
        return found


class NewOrganisation(OrganisationChange):
    """An organisation that is to be."""

    name: Name


class ProjectChange(Body):
    """What of a project changes; `limits` is replaced whole, `models: null` allows all."""

    active: StrictBool = NOT_GIVEN
    models: Models | None = None
    limits: LimitsBody = NOT_GIVEN

    def changes(self) -> dict[str, Any]:
        """For `dataclasses.replace`."""
        return _with_sets(self.given())


class NewProject(ProjectChange):
    """A project that is to be."""

    organisation: Name
    name: Name


class KeyChange(Body):
    """What of a key changes; `limits` is replaced whole, `models: null` allows all."""

    priority: Priority = NOT_GIVEN
    routing_mode: RoutingMode = NOT_GIVEN
    classes: Askable = NOT_GIVEN
    models: Models | None = None
    limits: LimitsBody = NOT_GIVEN
    expires_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _askable(self) -> KeyChange:
        if RequestClass.OWNER in (self.classes or ()):
            raise ValueError("classes are 'interactive' and 'batch'; 'owner' is given by the dispatcher")
        return self

    def changes(self) -> dict[str, Any]:
        """For `dataclasses.replace`."""
        found = _with_sets(self.given())
        if "classes" in found:
            found["classes"] = frozenset(found["classes"])
        if "expires_at" in found:
            found["expires_at_s"] = epoch(found.pop("expires_at"))
        return found


class NewKeyBody(KeyChange):
    """A key that is to be."""

    organisation: Name
    project: Name
    name: Name


class Rotation(Body):
    """How long the old secret works beside the new one."""

    overlap_s: Annotated[float, Field(strict=True, ge=0, le=366 * 86_400.0, allow_inf_nan=False)] = 86_400.0


class RoleBody(Body):
    """A role in a place."""

    role: Role
    organisation: Name | None = None
    project: Name | None = None

    @model_validator(mode="after")
    def _possible(self) -> RoleBody:
        self.value()
        return self

    def value(self) -> RoleGrant:
        """As the core has it. Raises ValueError for a role in a place where it does not exist."""
        return RoleGrant(self.role, self.organisation, self.project)


class PersonRole(RoleBody):
    """A role of a person."""

    person: Name


class PersonChange(Body):
    """What of a person changes."""

    name: Name = NOT_GIVEN
    email: Name | None = None
    subject: Name | None = None
    active: StrictBool = NOT_GIVEN


class NewPerson(Body):
    """A person who is to be, with roles."""

    name: Name
    email: Name | None = None
    subject: Name | None = Field(default=None, description="Issuer and `sub` of single sign-on")
    roles: Annotated[list[RoleBody], Field(max_length=100)] = []


class NewTokenBody(Body):
    """A personal access token that is to be."""

    name: Name
    expires_at: AwareDatetime | None = None


class NewServerBody(Body):
    """A server that is to be added to a model of the catalogue."""

    model: Name
    url: Link
    site: Name
    owner: Name
    engine: Engine = Engine.VLLM
    token: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    max_parallel_requests: Slots | None = None
    owner_reserved: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    served_name: Name | None = None
    context_window: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)] | None = None
    quantisation: Name | None = None
    spot: Annotated[StrictBool, Field(description="It may be taken away at any time")] = False
    id: Name | None = None


class ServerChange(Body):
    """Drain a server, or resume it."""

    draining: StrictBool


def epoch(time: AwareDatetime | None) -> float | None:
    """Epoch seconds."""
    return None if time is None else time.timestamp()


def _with_sets(found: dict[str, Any]) -> dict[str, Any]:
    if found.get("models") is not None:
        found["models"] = frozenset(found["models"])
    if "limits" in found:
        found["limits"] = found["limits"].value()
    return found
