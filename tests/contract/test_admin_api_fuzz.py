"""Whatever comes to the administration API, of the described form or not, is never a fault of ours: no 500."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ilaas.adapters.sql import SqlStore
from tests.contract.conftest import SECRET, new_database
from tests.support.admin import AdminWorld, administering

KNOWN = ["Lille", "Lyon", "corpus", "langues / été", "mistral", "lille-file", "operator", "member", "auditor"]
texts = st.one_of(st.sampled_from(KNOWN), st.text("ab/é ", min_size=1, max_size=9), st.text(max_size=30))
numbers = st.one_of(st.integers(-2, 10), st.integers(-(2**70), 2**70), st.floats(allow_nan=False))
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
dates = st.one_of(
    st.dates().map(str),
    st.datetimes().map(lambda time: f"{time.isoformat()}Z"),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2030-01-01T00:00:00Z"]),
)


def values(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a schema describes, roughly; one value in thirty is anything at all."""
    return st.integers(0, 29).flatmap(lambda die: junk if die == 0 else _described(schema, document))


def _described(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _described(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        return st.one_of([_described(each, document) for each in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object" if "properties" in schema:
            required = set(schema.get("required", ()))
            fields = {name: values(each, document) for name, each in schema["properties"].items()}
            return st.fixed_dictionaries(
                {name: each for name, each in fields.items() if name in required},
                optional={name: each for name, each in fields.items() if name not in required},
            )
        case "object":
            return st.dictionaries(texts, values(schema.get("additionalProperties", {}), document), max_size=2)
        case "array":
            return st.lists(values(schema["items"], document), max_size=3)
        case "string":
            return dates if schema.get("format") in {"date", "date-time"} else texts
        case "integer":
            return st.integers(schema.get("minimum", -5), schema.get("maximum", 2**70))
        case "number":
            return st.floats(0, schema.get("maximum", 1e9), allow_nan=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return junk


def requests(document: dict[str, Any]) -> st.SearchStrategy[tuple[str, str, dict[str, Any], Any, dict[str, str]]]:
    """Method, path template, parameters, body, headers of any operation."""
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]

    def one(operation: tuple[str, str, dict[str, Any]]) -> st.SearchStrategy[Any]:
        method, path, described = operation
        parameters = [each for each in described.get("parameters", ()) if each["in"] in {"path", "query"}]
        required = {each["name"]: values(each["schema"], document) for each in parameters if each.get("required")}
        optional = {each["name"]: values(each["schema"], document) for each in parameters if not each.get("required")}
        body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        headers = st.fixed_dictionaries(
            {}, optional={"if-match": st.just("*"), "idempotency-key": st.sampled_from(["a", "b", "c", "é"])}
        )
        return st.tuples(
            st.just(method.upper()),
            st.just(path),
            st.fixed_dictionaries(required, optional=optional),
            st.none() if body is None else values(body, document),
            headers,
        )

    return st.sampled_from(operations).flatmap(one)


async def send(world: AdminWorld, ids: list[str], asked: tuple[str, str, dict[str, Any], Any, dict[str, str]]) -> None:
    method, path, parameters, body, headers = asked
    query: dict[str, str] = {}
    for name, value in parameters.items():
        text = str(value).encode("utf-8", "replace").decode()
        if f"{{{name}}}" in path:
            known = {"person_id": ids[0], "key_id": ids[1], "token_id": ids[2]}.get(name, text)
            path = path.replace(f"{{{name}}}", quote(known if len(text) % 4 else text, safe="") or "x")
        elif value is not None:
            query[name] = text
    sent = {**headers, "authorization": f"Bearer {world.tokens['operator']}"}
    answer = await world.http.request(
        method, path, params=query, json=body, headers={name: value.encode() for name, value in sent.items()}
    )
    assert answer.status_code < 500, (asked, answer.text)
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgresql"])
def test_no_request_is_answered_by_a_fault(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    postgres = request.getfixturevalue("postgres") if kind == "postgresql" else ""

    async def begin(stack: AsyncExitStack) -> AdminWorld:
        store = None
        if kind != "memory":
            url = f"sqlite:///{tmp_path / 'ilaas.db'}"
            if postgres:
                url = await stack.enter_async_context(new_database(postgres))
            store = SqlStore(url, SECRET, lambda: 1_800_000_000.0)
            await store.open()
            stack.push_async_callback(store.close)
        return await stack.enter_async_context(administering(store))

    async def learn(world: AdminWorld) -> tuple[dict[str, Any], list[str]]:
        document = (await world.http.get("/admin/v1/openapi.json")).json()
        key = await world.must(
            "operator", "POST", "/keys", {"organisation": "Lille", "project": "corpus", "name": "fuzz"}
        )
        member = world.people["member"]
        tokens = await world.must("operator", "GET", f"/people/{member}/tokens")
        return document, [member, key["id"], tokens["data"][0]["id"]]

    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        try:
            world = runner.run(begin(stack))
            document, ids = runner.run(learn(world))

            @given(requests(document))
            @settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            def attack(asked: tuple[str, str, dict[str, Any], Any, dict[str, str]]) -> None:
                runner.run(send(world, ids, asked))

            attack()
        finally:
            runner.run(stack.aclose())
