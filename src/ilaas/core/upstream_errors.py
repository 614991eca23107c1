"""A server's refusal in the one shape that clients expect, with the server's own words."""

from __future__ import annotations

from typing import Any

import orjson

MAX_WORDS = 2000

_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


def normalise(status: int, body: bytes, *, served_name: str, public_name: str) -> bytes:
    """The error body for the client. vLLM, SGLang, FastAPI, llama.cpp, Ollama and TGI each have their own shape."""
    message, kind, param, code = _read(body)
    message = (message or f"The server refused the request with status {status}.")[:MAX_WORDS]
    if served_name and served_name != public_name:
        message = message.replace(served_name, public_name)
    return orjson.dumps(
        {
            "error": {
                "message": message,
                "type": kind or _TYPES.get(status, "invalid_request_error"),
                "param": param,
                "code": code,
            }
        }
    )


def lacks_model(body: bytes, served_name: str) -> bool:
    """Whether a 404 says that the server has no model of that name (vLLM, LMDeploy, Ollama, OpenAI).

    The client named one of ours, which is there: it is the server's fault, or its operator's, and another may have it.
    """
    message = _read(body)[0] or ""
    return served_name in message and ("does not exist" in message or "not found" in message)


def _read(body: bytes) -> tuple[str | None, str | None, str | None, str | None]:
    """(message, type, param, code) of any known shape."""
    try:
        tree: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, None, None, None
    if not isinstance(tree, dict):
        return None, None, None, None
    error = tree.get("error", tree)
    if isinstance(error, str):
        return error, _text(tree.get("error_type")), None, None
    if not isinstance(error, dict):
        return None, None, None, None
    message = error.get("message")
    if message is None and "detail" in error:
        detail = error["detail"]
        message = detail if isinstance(detail, str) else _validation(detail)
    return _text(message), _text(error.get("type")), _text(error.get("param")), _text(error.get("code"))


def _validation(detail: object) -> str | None:
    """FastAPI's list of {loc, msg} in one line."""
    if not isinstance(detail, list):
        return None
    parts = []
    for item in detail[:5]:
        if isinstance(item, dict):
            where = ".".join(str(step) for step in item.get("loc", []) if step != "body")
            parts.append(f"{where}: {item.get('msg', 'invalid')}" if where else str(item.get("msg", "invalid")))
    return "; ".join(parts) or None


def _text(value: object) -> str | None:
    return None if value is None or isinstance(value, dict | list) else str(value)
