"""A value that fits a JSON schema: what a model with structured outputs would give."""

from __future__ import annotations

from typing import Any

_DEEPEST = 12


def instance(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """The plainest value valid for `schema`; the usual keywords are known, unknown ones are ignored."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return "texte"
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return instance(_resolve(schema["$ref"], root), root, depth + 1)
    for keyword in ("anyOf", "oneOf", "allOf"):
        if schema.get(keyword):
            return instance(schema[keyword][0], root, depth + 1)
    return _typed(schema, root, depth)


def _typed(schema: dict[str, Any], root: Any, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    match kind:
        case "object":
            properties = schema.get("properties") or {}
            return {str(name): instance(inner, root, depth + 1) for name, inner in properties.items()}
        case "array":
            return [instance(schema.get("items"), root, depth + 1)] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _text(schema)


def _text(schema: dict[str, Any]) -> str:
    text = "texte".ljust(schema.get("minLength", 0), "e")
    return text[: schema.get("maxLength", len(text))]


def _resolve(reference: object, root: Any) -> Any:
    node = root
    for name in str(reference).removeprefix("#/").split("/"):
        node = node.get(name) if isinstance(node, dict) else None
    return node
