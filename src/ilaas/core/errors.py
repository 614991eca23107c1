"""Every error a user or operator can meet, in one tree.

Each class fixes its `code`, HTTP `status`, OpenAI error `type` and whether trying again can help. The message is for
the person who made the request: it names the field and the remedy. `services.answers` turns them into each API's body.
"""

from __future__ import annotations

from typing import ClassVar


class IlaasError(Exception):
    """The root: something a caller can be told."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers = b""
        """Further header lines of the answer, each ending in CRLF."""


# -- the caller's side (4xx) ------------------------------------------------------------------------------------------


class InvalidRequest(IlaasError):
    """The request can't be understood: bad JSON, a wrong type, a missing field."""

    code = "invalid_request"
    status = 400
    type = "invalid_request_error"


class ContextTooLong(InvalidRequest):
    """The prompt and the answer asked for exceed every server's context window."""

    code = "context_length_exceeded"


class Unauthenticated(IlaasError):
    """No key, or one that is unknown, expired or revoked."""

    code = "invalid_api_key"
    status = 401
    type = "authentication_error"


class Forbidden(IlaasError):
    """The caller is known but may not do this."""

    code = "permission_denied"
    status = 403
    type = "permission_error"


class NotFound(IlaasError):
    """No such thing, or none that the caller may see."""

    code = "not_found"
    status = 404
    type = "not_found_error"


class ModelNotFound(NotFound):
    """No such model for this caller; the message offers near names."""

    code = "model_not_found"
    type = "invalid_request_error"


class MethodNotAllowed(IlaasError):
    """The path exists, with another method."""

    code = "method_not_allowed"
    status = 405
    type = "invalid_request_error"


class Conflict(IlaasError):
    """The subject exists already, or changed since it was read."""

    code = "conflict"
    status = 409
    type = "conflict_error"


class LeaseLost(Conflict):
    """The job was taken over by another worker, cancelled or deleted: what comes out of it is no longer wanted."""

    code = "lease_lost"


class Stale(IlaasError):
    """The subject changed since the caller read it: its ETag is no longer the one given."""

    code = "precondition_failed"
    status = 412
    type = "conflict_error"


class PreconditionRequired(IlaasError):
    """A change must say which state it was made from."""

    code = "precondition_required"
    status = 428
    type = "invalid_request_error"


class BodyTooLarge(IlaasError):
    """The body exceeds the gateway's limit."""

    code = "body_too_large"
    status = 413
    type = "invalid_request_error"


class TargetTooLong(IlaasError):
    """The request's target (path and query) is too long."""

    code = "target_too_long"
    status = 414
    type = "invalid_request_error"


class RequestTimeout(IlaasError):
    """The client began a request and did not send the rest of it in time."""

    code = "request_timeout"
    status = 408
    type = "timeout_error"
    retryable = True


class HeadTooLarge(IlaasError):
    """The request's headers exceed the gateway's limit."""

    code = "headers_too_large"
    status = 431
    type = "invalid_request_error"


class MalformedHttp(InvalidRequest):
    """The bytes that came are not one unambiguous HTTP/1.1 request."""

    code = "malformed_http"


class UnsupportedMediaType(IlaasError):
    """The content type is not the one this path takes."""

    code = "unsupported_media_type"
    status = 415
    type = "invalid_request_error"


class Unprocessable(IlaasError):
    """Well-formed, but a value is out of its range."""

    code = "unprocessable"
    status = 422
    type = "invalid_request_error"


class MediaUnusable(Unprocessable):
    """The media can't be fetched or read, or has nothing to transcribe: trying again would not help."""

    code = "media_unusable"


class RateLimited(IlaasError):
    """A quota, a budget or a rate of the caller is used up."""

    code = "rate_limit_exceeded"
    status = 429
    type = "rate_limit_error"
    retryable = True


class QuotaExhausted(RateLimited):
    """What was granted for a day, a month or in euros is used up, or the request asks for more than the whole of it."""

    code = "insufficient_quota"
    retryable = False


class TooBusy(IlaasError):
    """The predicted wait passes the threshold, or the queue is full."""

    code = "too_busy"
    status = 429
    type = "rate_limit_error"
    retryable = True


# -- the federation's side (5xx) --------------------------------------------------------------------------------------


class NoServer(IlaasError):
    """No server of the model is up."""

    code = "no_server_available"
    status = 503
    type = "service_unavailable"
    retryable = True


class QueueTimeout(IlaasError):
    """The request waited in the queue longer than its deadline."""

    code = "queue_timeout"
    status = 503
    type = "service_unavailable"
    retryable = True


class Draining(IlaasError):
    """This gateway is shutting down and takes no new request."""

    code = "shutting_down"
    status = 503
    type = "service_unavailable"
    retryable = True


class UpstreamFailed(IlaasError):
    """The server could not be reached, or broke off before the first token, on every try."""

    code = "upstream_failed"
    status = 502
    type = "server_error"
    retryable = True


class UpstreamInvalid(UpstreamFailed):
    """The server answered something that is not the protocol."""

    code = "upstream_invalid_answer"


class StreamBroken(UpstreamFailed):
    """The server broke off in the middle of an answer."""

    code = "upstream_stream_broken"


class FirstTokenTimeout(IlaasError):
    """The server gave no first token in time."""

    code = "first_token_timeout"
    status = 504
    type = "timeout_error"
    retryable = True


class AnswerTimeout(FirstTokenTimeout):
    """An answer that isn't streamed did not come in time."""

    code = "answer_timeout"


class ConnectTimeout(FirstTokenTimeout):
    """The server did not accept the connection in time."""

    code = "connect_timeout"


class IdleTimeout(FirstTokenTimeout):
    """The server fell silent in the middle of an answer."""

    code = "idle_timeout"


class TotalTimeout(FirstTokenTimeout):
    """The answer took longer than a request may take."""

    code = "total_timeout"


# -- the operator's side ----------------------------------------------------------------------------------------------


class ConfigError(IlaasError):
    """The configuration file is wrong; the message names the file, the line and the remedy."""

    code = "invalid_configuration"
    status = 422
    type = "invalid_request_error"


class StoreUnavailable(IlaasError):
    """The database does not answer."""

    code = "store_unavailable"
    status = 503
    type = "service_unavailable"
    retryable = True
