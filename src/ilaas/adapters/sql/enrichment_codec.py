"""Values of `core.enrichment` as JSON text and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError
from sqlalchemy import Row

from ilaas.core.enrichment.changes import Notice
from ilaas.core.enrichment.clients import ClientPolicy
from ilaas.core.enrichment.turns import rank_s
from ilaas.core.enrichment.values import Enrichment, ModelChoice, Transcript, Version
from ilaas.core.errors import Unprocessable

T = TypeVar("T")

ENRICHMENT = TypeAdapter(Enrichment)
VERSION = TypeAdapter(Version)
TRANSCRIPT = TypeAdapter(Transcript)
NOTICE = TypeAdapter(Notice)
POLICY = TypeAdapter(ClientPolicy)


def to_text(adapter: TypeAdapter[T], value: T) -> str:
    """The value as JSON. Raises Unprocessable for what no JSON can hold."""
    try:
        return adapter.dump_json(value).decode()
    except PydanticSerializationError:  # half of a surrogate pair, which no UTF-8 has
        raise Unprocessable("A text has characters that can't be stored.") from None


def enrichment_columns(enrichment: Enrichment) -> dict[str, Any]:
    """The row of an enrichment."""
    job, media = enrichment.job, enrichment.media
    wanted = ModelChoice() if job is None else enrichment.wanted.get(job.step, ModelChoice())
    return {
        "id": enrichment.id,
        "client_id": enrichment.client_id,
        "status": enrichment.status.value,
        "created_at_s": enrichment.created_at_s,
        "updated_at_s": enrichment.updated_at_s,
        "deleted": enrichment.deleted_at_s is not None,
        "priority": enrichment.priority,
        "media_duration_s": enrichment.media_duration_s,
        "media_key": None if media is None else media.object_key,
        "media_until_s": enrichment.retention.media_until_s,
        "results_until_s": enrichment.retention.results_until_s,
        "fence": enrichment.fence,
        "job_step": None if job is None else job.step.value,
        "job_model": wanted.model,
        "job_infrastructure": wanted.infrastructure,
        "job_rank_s": None if job is None else rank_s(enrichment),
        "job_not_before_s": None if job is None else job.not_before_s,
        "job_lease_until_s": None if job is None else job.lease_until_s,
        "job_attempts": None if job is None else job.attempts,
        "body": to_text(ENRICHMENT, enrichment),
    }


def version_columns(version: Version) -> dict[str, Any]:
    """The row of a version, its transcript apart: lists are read without it."""
    return {
        "id": version.id,
        "enrichment_id": version.enrichment_id,
        "created_at_s": version.created_at_s,
        "updated_at_s": version.updated_at_s,
        "body": to_text(VERSION, replace(version, transcript=None)),
        **({} if version.transcript is None else {"transcript": to_text(TRANSCRIPT, version.transcript)}),
    }


def version_of(row: Row[Any], *, with_transcript: bool) -> Version:
    """The version of a row."""
    version = VERSION.validate_json(row.body)
    if not with_transcript or row.transcript is None:
        return version
    return replace(version, transcript=TRANSCRIPT.validate_json(row.transcript))
