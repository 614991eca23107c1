"""How the public listener's connections receive inference requests: a body in memory, a form with a file kept aside."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from ilaas.core.errors import IlaasError
from ilaas.http.answering import AnsweringProtocol
from ilaas.http.checks import check_length
from ilaas.http.front import Front
from ilaas.http.uploads import Hooks, Upload
from ilaas.ports.client import InboundRequest
from ilaas.ports.upload import ReceivedForm


class ReceivingProtocol(AnsweringProtocol):
    """Receives the requests of one connection, one at a time."""

    def __init__(
        self,
        front: Front,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(front, config, server_state, app_state, _loop)
        self._limits = front.limits
        self._inbound: InboundRequest | None = None
        self._body: list[bytes] = []
        self._max_body_bytes = self._limits.max_body_bytes
        self._upload: Upload | None = None
        """The form that is being received, in the place of a body."""
        self._upload_since_s = 0.0
        self._fast = False
        """The message being read is an inference request."""
        self._ready = False
        self._problem: IlaasError | None = None
        self._since_s = 0.0
        """When the part of a request that is under way began (head) or last grew (body); 0 between requests."""

    def _begin(self) -> None:
        """The request is whole: start it."""
        raise NotImplementedError

    def refuse(self, error: IlaasError) -> None:
        """Answer an error that was met before the use case, and close."""
        raise NotImplementedError

    def _take(self, path: str, headers: dict[bytes, bytes]) -> None:
        """It is an inference request, answered here."""
        self._fast = True
        self._body = []
        self._keep_alive = self.parser.should_keep_alive() and not self._front.ending
        self._chunked = self.parser.get_http_version() == "1.1"
        self._inbound = InboundRequest(path, headers, b"", self._front.inference.context.clock())

    def _let_come(self, headers: dict[bytes, bytes]) -> None:
        """Tell a client that asks before it sends its body to go on."""
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self._writes.write(self.transport, b"HTTP/1.1 100 Continue\r\n\r\n")

    # -- forms with a file ---------------------------------------------------------------------------------------------

    def _receive(self, path: str, headers: dict[bytes, bytes]) -> None:
        """A form's head is there: its file is kept aside as it comes, and the request begins when it is whole."""
        self._take(path, headers)
        self._max_body_bytes = self._limits.max_upload_bytes
        self._problem = check_length(headers, self._max_body_bytes)
        if self._problem is not None:
            return
        inference = self._front.inference
        hooks = Hooks(
            early=partial(inference.check_form, headers),
            full=self.flow.pause_reading,
            room=self._room,
            ready=self._form_ready,
            failed=self._form_failed,
        )
        try:
            inference.check_form(headers, [])
            self._upload = self._front.uploads.begin(headers, hooks)
        except IlaasError as error:
            self._problem = error
            return
        self._upload_since_s = self.loop.time()
        self._let_come(headers)

    def _feed(self, upload: Upload, body: bytes) -> None:
        try:
            upload.feed(body)
        except IlaasError as error:
            self._problem = error

    def _finish(self, upload: Upload) -> None:
        """The form's last byte came."""
        try:
            form = upload.finish()
        except IlaasError as error:
            self._problem = error
            return
        if form is None:
            self._exchange = upload  # no further request before this one
        else:
            self._complete(form)
            self._ready = True

    def _room(self) -> None:
        self._since_s = self.loop.time()
        self.flow.resume_reading()

    def _form_ready(self, form: ReceivedForm) -> None:
        self._exchange = None
        self._complete(form)
        self._begin()

    def _complete(self, form: ReceivedForm) -> None:
        """The time of the request begins now: a slow line has used up nothing of it."""
        if self._inbound is not None:
            self._inbound.form = form
            self._inbound.received_s = self._front.inference.context.clock()

    def _form_failed(self, error: IlaasError) -> None:
        self._exchange = None
        self.refuse(error)

    def _drop_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.close()
