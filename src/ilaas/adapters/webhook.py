"""Calls the webhooks of clients, signed when they have a secret.

The signature is `X-Ilaas-Signature: t=<epoch seconds>,v1=<hex>`, HMAC-SHA256 of `<t>.<body>`: the time keeps a call
that somebody overheard from being sent again later.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import urlsplit

import structlog

from ilaas.adapters.guarded_http import BrokenOffError, GuardedHttp, UnreachableError
from ilaas.core.errors import InvalidRequest
from ilaas.ports.media import WebhookAnswer

SIGNATURE_HEADER = "X-Ilaas-Signature"
_READ_BYTES = 64 * 1024
"""Of the answer; its text is of no interest."""

log = structlog.get_logger(__name__)


class WebhookCaller:
    """POSTs JSON."""

    def __init__(self, http: GuardedHttp, epoch: Callable[[], float]) -> None:
        self._http = http
        self._epoch = epoch

    async def call(self, url: str, body: bytes, *, secret: str | None) -> WebhookAnswer:
        """As `ports.media.Webhooks`."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if secret is not None:
            headers[SIGNATURE_HEADER] = signature(body, secret, int(self._epoch()))
        try:
            async with self._http.send("POST", url, headers, body) as answer:
                read = 0
                async for chunk in answer.body:
                    read += len(chunk)
                    if read > _READ_BYTES:
                        break
                return WebhookAnswer(status=answer.status)
        except InvalidRequest as error:
            log.warning("webhook_refused", host=urlsplit(url).hostname, reason=error.message)
            return WebhookAnswer(status=None, reached=False)
        except UnreachableError as error:
            log.info("webhook_unreachable", host=urlsplit(url).hostname, reason=str(error))
            return WebhookAnswer(status=None, reached=False)
        except BrokenOffError as error:
            log.info("webhook_broke_off", host=urlsplit(url).hostname, reason=str(error))
            return WebhookAnswer(status=None)

    async def close(self) -> None:
        """Let go of every connection."""
        await self._http.close()


def signature(body: bytes, secret: str, at_s: int) -> str:
    """The value of the header."""
    mac = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={mac.hexdigest()}"
