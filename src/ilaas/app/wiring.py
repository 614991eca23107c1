"""Builds a gateway from its settings. The only place that names implementations."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace

from ilaas import __version__
from ilaas.adapters.outbox import FileOutbox
from ilaas.adapters.secret import load_secret
from ilaas.adapters.sql import SqlStore
from ilaas.adapters.writes import TurnWrites
from ilaas.app.dispatch_wiring import GatewayDispatch, build_gateway_dispatch
from ilaas.app.governing import build_governance
from ilaas.app.impact_wiring import PowerReader, estimate, sharing_rules
from ilaas.app.settings import Settings
from ilaas.app.speech_wiring import Speech, build_speech
from ilaas.app.stt_wiring import build_stt
from ilaas.core.quota import QuotaBook
from ilaas.http.admin_api import build_admin_router
from ilaas.http.app import AppSources, build_app
from ilaas.http.front import Front
from ilaas.http.limits import MIB
from ilaas.http.uploads import Uploads
from ilaas.http.usage_api import build_usage_router
from ilaas.ports.store import Store
from ilaas.relay.upstream import HttpUpstream
from ilaas.services.accounting import Accounting
from ilaas.services.admission import Admission
from ilaas.services.context import Context, InferencePolicy
from ilaas.services.counters import Counters
from ilaas.services.impacts import Impacts
from ilaas.services.inference import Inference
from ilaas.services.models import ModelPages
from ilaas.services.prices import Prices
from ilaas.services.quota_sharing import QuotaSharing
from ilaas.services.quotas import Quotas
from ilaas.services.reconcile import Followers, Reconcile
from ilaas.services.registry import Registry


@dataclass(slots=True, kw_only=True)
class Gateway:
    """All the parts of one gateway process, put together and not yet started."""

    settings: Settings
    store: Store
    outbox: FileOutbox
    registry: Registry
    reconcile: Reconcile
    counters: Counters
    sharing: QuotaSharing | None
    """None where there are no other gateways."""
    dispatch: GatewayDispatch
    upstream: HttpUpstream
    accounting: Accounting
    inference: Inference
    front: Front
    power: PowerReader
    speech: Speech | None
    """None when the speech service is off."""
    app: object
    """The ASGI application of the public listener."""
    started_at_s: float
    """Epoch."""
    ready: bool = False


def open_store(settings: Settings) -> SqlStore:
    """The store of these settings, not opened yet; the command line works on it directly."""
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return SqlStore(settings.database_url, load_secret(settings.state_dir))


def build(settings: Settings) -> Gateway:
    """Put one embedded gateway together."""
    clock, epoch = time.monotonic, time.time
    store = open_store(settings)
    registry = Registry(load_secret(settings.state_dir).pepper, epoch)
    writes = TurnWrites()
    upstream = HttpUpstream(clock, writes)
    dispatch = build_gateway_dispatch(settings, lambda: registry.catalogue, clock, upstream)
    outbox = FileOutbox(settings.state_dir / "outbox")
    accounting = Accounting(outbox, registry.key_used)
    quotas = QuotaBook()
    prices = Prices()
    impacts = Impacts(estimate, clock, sharing_rules(settings.power_interval_s))
    context = Context(
        broker=dispatch.broker,
        upstream=upstream,
        accounting=accounting,
        quotas=Quotas(quotas, clock, epoch),
        impacts=impacts,
        prices=prices,
        clock=clock,
        epoch=epoch,
        policy=InferencePolicy(
            keepalive_comment_s=settings.keepalive_comment_s, historic_overload_text=settings.historic_overload_text
        ),
    )
    admission = Admission(registry, epoch)
    inference = Inference(admission, context, str(uuid.uuid4())[:24])
    limits = replace(settings.limits, max_media_bytes=settings.speech.max_upload_bytes + MIB)  # a form has more
    gateway = Gateway(
        settings=settings,
        store=store,
        outbox=outbox,
        registry=registry,
        reconcile=Reconcile(
            store,
            registry,
            quotas,
            dispatch.configure,
            followers=Followers(catalogue=impacts.use, tariffs=prices.set_tariffs),
        ),
        counters=Counters(store, registry, quotas, clock, epoch),
        sharing=QuotaSharing(quotas, dispatch.gossip, str(uuid.uuid4()), clock, epoch) if dispatch.gossip else None,
        dispatch=dispatch,
        upstream=upstream,
        accounting=accounting,
        inference=inference,
        front=Front(inference, limits, writes, Uploads(limits, settings.state_dir / "uploads")),
        power=PowerReader(impacts, settings.power_interval_s),
        speech=build_speech(settings) if settings.speech.enabled else None,
        app=None,
        started_at_s=epoch(),
    )
    governance = build_governance(settings, store, lambda: registry.catalogue)
    stt = build_stt(settings, gateway.speech, registry, governance)
    gateway.app = build_app(
        AppSources(
            admission=admission,
            pages=ModelPages(admission, dispatch.broker, int(gateway.started_at_s), impacts),
            ready=lambda: gateway.ready and dispatch.ready(),
            version=__version__,
            routers=(
                build_admin_router(governance, __version__, gateway.reconcile.follow, stt.admin),
                build_usage_router(admission, store, epoch),
            ),
            mounts=stt.mounts,
        )
    )
    return gateway
