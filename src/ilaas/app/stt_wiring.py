"""Builds the speech API and what administers its clients, on the service's stores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.applications import Starlette

from ilaas import __version__
from ilaas.adapters.jwt_signer import JwtSigner
from ilaas.adapters.secret import load_secret
from ilaas.app.settings import Settings
from ilaas.app.speech_wiring import Speech, new_id
from ilaas.core.catalogue import Catalogue
from ilaas.core.enrichment.clients import ApiClient
from ilaas.core.enrichment.values import ModelChoice
from ilaas.core.values import Category
from ilaas.http.admin_api.speech_clients import add_speech_client_routes
from ilaas.http.stt_api import SttApi, build_stt_app
from ilaas.services.enrichment.api_world import ApiWorld
from ilaas.services.enrichment.clients import ApiClients
from ilaas.services.enrichment.offers import Offers
from ilaas.services.enrichment.tokens import ApiTokens, TokenWorld
from ilaas.services.governance import Governance
from ilaas.services.registry import Registry

_NO_TALK = frozenset({Category.EMBEDDING, Category.RERANKING, Category.TRANSCRIPTION, Category.SPEECH})


@dataclass(frozen=True, slots=True)
class SttParts:
    """What the public listener serves of the speech service."""

    mounts: dict[str, Starlette]
    admin: Sequence[Callable[[APIRouter], None]]


def build_stt(settings: Settings, speech: Speech | None, registry: Registry, governance: Governance) -> SttParts:
    """Nothing, when the service is off."""
    if speech is None:
        return SttParts({}, ())
    tokens = ApiTokens(
        TokenWorld(
            store=speech.store,
            signer=JwtSigner(),
            pepper=load_secret(settings.state_dir).pepper,
            epoch=time.time,
            new_id=new_id,
            is_open=lambda client: _is_open(registry, client),
        )
    )
    world = ApiWorld(
        store=speech.store,
        objects=speech.objects,
        offers=Offers(speech.store, lambda client: _offers(registry, client)),
        limits=speech.limits,
        epoch=time.time,
        new_id=new_id,
        require_tld=not settings.speech.allow_private_addresses,
    )
    clients = ApiClients(governance.office, speech.store)
    return SttParts(
        {
            "/api": build_stt_app(
                SttApi(world=world, tokens=tokens, version=__version__, public_url=settings.speech.public_url)
            )
        },
        (lambda api: add_speech_client_routes(api, governance, clients),),
    )


def _is_open(registry: Registry, client: ApiClient) -> bool:
    """Unless its project or organisation is closed; one that is not known yet was made a moment ago."""
    directory = registry.directory
    project = directory.projects.get((client.organisation, client.project))
    organisation = directory.organisations.get(client.organisation)
    return (project is None or project.active) and (organisation is None or organisation.consumer)


def _offers(registry: Registry, client: ApiClient | None) -> Sequence[ModelChoice]:
    """The language models that the client's project may use, each wherever it runs."""
    catalogue: Catalogue = registry.catalogue
    allowed: frozenset[str] | None = None
    if client is not None:
        project = registry.directory.projects.get((client.organisation, client.project))
        allowed = None if project is None else project.models
    return [
        ModelChoice(model=model.name)
        for model in catalogue.models.values()
        if model.category not in _NO_TALK
        and (client is None or model.organisations is None or client.organisation in model.organisations)
        and (allowed is None or model.name in allowed)
    ]
