"""What clients of the speech API order: enrichments by address or by file, new versions of their results, deletion."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial

from ilaas.core.enrichment import orders
from ilaas.core.enrichment.changes import Change
from ilaas.core.enrichment.clients import ApiClient
from ilaas.core.enrichment.sniffing import HEAD_BYTES, sniff
from ilaas.core.enrichment.steps import Status
from ilaas.core.enrichment.values import (
    Enrichment,
    EnrichmentParameters,
    MediaInfo,
    MediaKind,
    Notify,
    Retention,
    Version,
)
from ilaas.core.errors import NotFound
from ilaas.ports.content import Upload
from ilaas.services.enrichment.api_world import ApiWorld
from ilaas.services.enrichment.fetch import media_key
from ilaas.services.enrichment.offers import wanted
from ilaas.services.enrichment.order_rules import BAD_URL, Order, checked, is_url
from ilaas.services.enrichment.refusals import Violation, Violations, refused

NOT_SUPPORTED = "File type not supported. Supported types are videos, audio files and subtitles"
_LONGEST_NAME = 255
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class _Checked:
    """An order that breaks no rule."""

    order: Order
    parameters: EnrichmentParameters


class Commands:
    """Every method is for one client, and raises NotFound or Forbidden for what is not its own."""

    def __init__(self, world: ApiWorld) -> None:
        self._world = world

    async def create_by_url(self, client: ApiClient, url: str | None, order: Order) -> str:
        """An enrichment of what lies at `url`; returns its id. Raises Violations."""
        found: list[Violation] = []
        if url is None or not url.strip():
            found.append(Violation("url", "The parameter url cannot be empty"))
        elif not is_url(url, require_tld=self._world.require_tld):
            found.append(Violation("url", BAD_URL))
        good = await self._checked(client, order, found)
        enrichment_id = self._world.new_id()
        await self._add(replace(self._enrichment(client, enrichment_id, good), media_url=url))
        return enrichment_id

    def receive(self, client: ApiClient) -> Reception:
        """A file begins to come in, for an enrichment that is made when it is whole."""
        return Reception(self, self._world, client)

    async def create_uploaded(self, client: ApiClient, enrichment_id: str, media: MediaInfo, order: Order) -> None:
        """An enrichment of a file that is in the object store. Raises Violations."""
        good = await self._checked(client, order, [])
        await self._add(replace(self._enrichment(client, enrichment_id, good), media=media))

    async def ask_again(self, client: ApiClient, enrichment_id: str, order: Order) -> None:
        """Let the machine make a new version. Raises Violations, Conflict while a step is still to be done."""
        await self._world.owned(client, enrichment_id)
        good = await self._checked(client, order, [])
        _, latest = await self._world.latest(client, enrichment_id)
        await self._world.store.change(enrichment_id, partial(self._again, client, good, latest))

    async def delete(self, client: ApiClient, enrichment_id: str) -> None:
        """Remove everything, and stop what is being done."""

        def decide(found: Enrichment) -> Change:
            return orders.deleted(self._world.checked(client, found), self._world.epoch())

        await self._world.owned(client, enrichment_id)
        await self._world.store.change(enrichment_id, decide)

    def _again(self, client: ApiClient, good: _Checked, latest: Version, found: Enrichment) -> Change:
        self._world.checked(client, found)
        order = good.order
        asked = replace(
            found,
            notify=Notify(url=order.webhook_url, level=order.notification_level, count=found.notify.count),
            end_user_identifier=order.end_user_identifier or found.end_user_identifier,
            wanted=wanted(client, good.parameters),
        )
        return orders.asked_again(asked, latest, self._world.new_id(), good.parameters, self._world.epoch())

    async def _checked(self, client: ApiClient, order: Order, found: list[Violation]) -> _Checked:
        order, problems = checked(order, require_tld=self._world.require_tld)
        parameters = order.parameters
        found = [*found, *problems]
        if parameters is not None:
            found += await self._world.offers.problems(client, parameters)
        if found or parameters is None:
            raise Violations(found)
        return _Checked(order, parameters)

    def _enrichment(self, client: ApiClient, enrichment_id: str, good: _Checked) -> Enrichment:
        now, order, policy = self._world.epoch(), good.order, client.policy
        return Enrichment(
            id=enrichment_id,
            client_id=client.id,
            organisation=client.organisation,
            project=client.project,
            created_at_s=now,
            updated_at_s=now,
            requested_at_s=now,
            status=Status.WAITING_MEDIA_UPLOAD,
            parameters=good.parameters,
            notify=Notify(url=order.webhook_url, level=order.notification_level),
            end_user_identifier=order.end_user_identifier,
            wanted=wanted(client, good.parameters),
            priority=policy.priority,
            interactive=policy.interactive,
            retention=Retention(keep_media_s=policy.keep_media_s, keep_results_s=policy.keep_results_s),
        )

    async def _add(self, enrichment: Enrichment) -> None:
        await self._world.store.add(orders.created(enrichment, self._world.epoch()))


class Reception:
    """A file on its way into the object store. What it is, is told by its content."""

    def __init__(self, commands: Commands, world: ApiWorld, client: ApiClient) -> None:
        self._commands = commands
        self._world = world
        self._client = client
        self._id = world.new_id()
        self._key = media_key(client.id, self._id)
        self._upload: Upload | None = None
        self._head = b""
        self._name = ""
        self._kind: tuple[str, MediaKind] | None = None
        self._kept = False

    @property
    def begun(self) -> bool:
        """Whether a file was announced."""
        return self._upload is not None

    async def begin(self, name: str) -> None:
        """The file's name is known. Raises Violations for a second file."""
        if self._upload is not None:
            raise refused("file", "Only one file is expected")
        own, given = self._world.limits.max_upload_bytes, self._client.policy.max_upload_bytes
        self._name = name
        self._upload = await self._world.objects.resume(self._key, max_bytes=own if given is None else min(own, given))

    async def write(self, data: bytes) -> None:
        """The next bytes. Raises Violations for what can't be transcribed, BodyTooLarge."""
        if self._kind is not None:
            await self._send(data)
            return
        self._head += data
        if len(self._head) >= HEAD_BYTES:
            await self._sniff()

    async def finish(self, order: Order, name: str | None) -> str:
        """The form is whole: make the enrichment, whose id is returned. `name` is in place of the file's own."""
        if self._upload is None:
            raise refused("file", "The parameter file cannot be empty")
        if self._kind is None:
            await self._sniff()
        assert self._kind is not None  # noqa: S101 -- else it was refused
        stored = await self._upload.finish()
        media = MediaInfo(
            original_file_name=plain_name(name or self._name),
            mime_type=self._kind[0],
            kind=self._kind[1],
            object_key=self._key,
            size_bytes=stored.size_bytes,
        )
        await self._commands.create_uploaded(self._client, self._id, media, order)
        self._kept = True
        return self._id

    async def close(self) -> None:
        """Nothing is left of it, unless it became an enrichment."""
        if self._upload is not None and not self._kept:
            await self._upload.abort()
            await self._world.objects.delete(self._key)

    async def _sniff(self) -> None:
        if not self._head:
            raise refused("file", "An empty file is not allowed.")
        self._kind = sniff(self._head)
        if self._kind is None:
            raise refused("file", NOT_SUPPORTED)
        head, self._head = self._head, b""
        await self._send(head)

    async def _send(self, data: bytes) -> None:
        if self._upload is None:
            raise NotFound("No file was announced.")
        await self._upload.write(data)


def plain_name(name: str) -> str:
    """The name of a file without folders and control characters; `media` when nothing is left."""
    bare = _NOT_IN_NAMES.sub("", name.replace("\\", "/").rpartition("/")[2]).strip()
    return bare[-_LONGEST_NAME:] or "media"
