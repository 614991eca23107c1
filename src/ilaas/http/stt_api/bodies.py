"""What clients send as JSON. Fields that are not named here are ignored, whatever they are: clients send some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ilaas.core.enrichment.values import EnrichmentParameters
from ilaas.http.stt_api.reading import shaped
from ilaas.services.enrichment.order_rules import Order
from ilaas.services.enrichment.refusals import refused

_EMPTY_IS_A_MISTAKE = ("aiEvaluation", "language", "translateTo")


class Body(BaseModel):
    """Names in camel case; types are not converted."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, strict=True, extra="ignore")


class ParametersBody(Body):
    """What is wanted of a media."""

    media_types: list[str] | None = Field(None, description="To choose from; required with generateMetadata")
    disciplines: list[str] | None = Field(None, description="To choose from; required with generateMetadata")
    ai_evaluation: str | None = Field(None, description="`ChatGPT` has the quiz judged by a model of the federation")
    ai_model: str | None = None
    infrastructure: str | None = None
    language: str | None = Field(None, description="Two letters, of the media; null: as it is heard")
    translate_to: str | None = Field(None, description="Two letters")
    generate_metadata: bool | None = True
    generate_quiz: bool | None = True
    generate_notes: bool | None = False

    def value(self) -> EnrichmentParameters:
        """As the core has it."""
        return EnrichmentParameters(
            media_types=None if self.media_types is None else tuple(self.media_types),
            disciplines=None if self.disciplines is None else tuple(self.disciplines),
            ai_evaluation=self.ai_evaluation,
            ai_model=self.ai_model or None,
            infrastructure=self.infrastructure or None,
            language=self.language,
            translate_to=self.translate_to,
            generate_metadata=self.generate_metadata is not False,
            generate_quiz=self.generate_quiz is not False,
            generate_notes=self.generate_notes is True,
        )


class OrderBody(Body):
    """What is wanted, and who is told of it."""

    notification_webhook_url: str | None = None
    notification_level: str | None = Field(
        None, description="`default` (at the end), `task` (after each step) or `none` (no webhook is needed)"
    )
    end_user_identifier: str | None = Field(
        None, validation_alias=AliasChoices("endUserIdentifier", "enduserIdentifier")
    )
    enrichment_parameters: ParametersBody | None = None

    def order(self, raw: Mapping[str, Any]) -> Order:
        """As the service takes it. `raw` is the body as it came."""
        asked = self.enrichment_parameters
        given = raw.get("enrichmentParameters")
        blank = [name for name in _EMPTY_IS_A_MISTAKE if isinstance(given, Mapping) and given.get(name) == ""]
        return Order(
            parameters=None if asked is None else asked.value(),
            webhook_url=self.notification_webhook_url,
            level=self.notification_level or None,
            end_user_identifier=self.end_user_identifier or None,
            blank=frozenset(blank),
        )


class UrlBody(OrderBody):
    """A media that lies on the web."""

    url: str | None = None


def parameters_of_form(raw: Any) -> EnrichmentParameters | None:
    """The field `enrichmentParameters` of a form, where an empty text means null. Raises Violations, ProblemError."""
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        raise refused("enrichmentParameters", "This value should be of type object.")
    given = {name: None if value == "" else value for name, value in raw.items()}
    return shaped(ParametersBody, given, "enrichmentParameters").value()


class ThumbsBody(Body):
    """What a person thinks of the metadata."""

    thumb_up_title: bool | None = None
    thumb_up_description: bool | None = None
    thumb_up_topics: bool | None = None
    thumb_up_discipline: bool | None = None
    thumb_up_media_type: bool | None = None
    user_feedback: str | None = None


class ChoiceOpinionBody(Body):
    """What a person thinks of a choice."""

    id: str
    thumb_up: bool | None = None


class QuestionOpinionBody(Body):
    """What a person thinks of a question."""

    id: str
    thumb_up: bool | None = None
    user_feedback: str | None = None
    choices: list[ChoiceOpinionBody] | None = None


class EvaluationBody(Body):
    """What a person thinks of a version; what is left out stays as it is."""

    enrichment_version_metadata: ThumbsBody | None = None
    multiple_choice_questions: list[QuestionOpinionBody] | None = None


class QuestionThumbBody(Body):
    """What a person thinks of one question."""

    thumb_up: bool | None = None
    user_feedback: str | None = None


class ChoiceThumbBody(Body):
    """What a person thinks of one choice."""

    thumb_up: bool | None = None


class WebhookBody(Body):
    """What webhooks are told."""

    id: str
    status: str
    initial_version_id: str | None = None
    failure_cause: str | None = None
    completed_step: str | None = None


class HandInBody(Body):
    """What every worker says with its result."""

    task_id: str | None = None
    status: str | None = None
    failure_cause: str | None = None


def said(body: Body) -> dict[str, Any]:
    """The fields that were sent, by their names."""
    return {name: getattr(body, name) for name in body.model_fields_set if name not in {"id", "choices"}}
