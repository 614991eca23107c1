"""The API's description as a page: made here, with nothing to fetch from elsewhere, so that it works offline."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import orjson

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1f;"
    "background:#fff}h2{margin-top:2rem}details{border:1px solid #c8c8d0;border-radius:6px;margin:.4rem 0;"
    "padding:.4rem .8rem}summary{cursor:pointer}code,pre,textarea,input{font:14px/1.4 ui-monospace,monospace}"
    "pre{overflow:auto;background:#f4f4f7;padding:.6rem;border-radius:6px}b{display:inline-block;min-width:4.5rem}"
    "textarea,input{width:100%;box-sizing:border-box}table{border-collapse:collapse}td{padding:.1rem .8rem .1rem 0;"
    "vertical-align:top}@media(prefers-color-scheme:dark){body{color:#e6e6ec;background:#16161a}"
    "pre{background:#24242b}}"
)
_SCRIPT = """
const token = document.getElementById('token');
for (const form of document.querySelectorAll('form[data-path]')) {
  form.addEventListener('submit', async event => {
    event.preventDefault();
    const out = form.querySelector('pre');
    let path = form.dataset.path;
    const query = new URLSearchParams();
    for (const input of form.querySelectorAll('input[name]')) {
      if (path.includes('{' + input.name + '}')) path = path.replace('{' + input.name + '}',
        encodeURIComponent(input.value));
      else if (input.value) query.set(input.name, input.value);
    }
    const body = form.querySelector('textarea');
    const headers = token.value ? {authorization: 'Bearer ' + token.value} : {};
    if (body) headers['content-type'] = 'application/json';
    try {
      const answer = await fetch(path + (query.size ? '?' + query : ''),
        {method: form.dataset.method, headers, body: body ? body.value : undefined});
      const text = await answer.text();
      out.textContent = answer.status + ' ' + answer.statusText + '\\n' + text;
      if (path === '/api/token' && answer.ok) token.value = JSON.parse(text).access_token;
    } catch (error) { out.textContent = String(error); }
  });
}
"""


def page(document: Mapping[str, Any]) -> str:
    """The page, with a form to try each operation that takes JSON or nothing."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(document, path, method, operation))
    info = document["info"]
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(found)}" for tag, found in by_tag.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
        f'<p>{escape(info["description"])}</p><p>Machine-readable: <a href="/api/doc.json">/api/doc.json</a></p>'
        '<p><label>Token <input id="token" autocomplete="off" placeholder="filled in by POST /api/token"></label></p>'
        f"{sections}<script>{_SCRIPT}</script></html>"
    )


def _operation(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> str:
    fields = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{each['in']}</td>"
        f'<td><input name="{escape(each["name"])}" aria-label="{escape(each["name"])}"></td></tr>'
        for each in operation.get("parameters", ())
    )
    content = operation.get("requestBody", {}).get("content", {})
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation['summary'])}"
        f'</summary><form data-path="{escape(path)}" data-method="{method.upper()}"><table>{fields}</table>'
        f"{_body(document, content)}</form></details>"
    )


def _body(document: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    send = "<p><button>Send</button></p><pre></pre>"
    if "application/json" in content:
        example = orjson.dumps(_example(document, content["application/json"]["schema"]), option=orjson.OPT_INDENT_2)
        return f'<textarea rows="8" aria-label="body">{escape(example.decode())}</textarea>{send}'
    if "multipart/form-data" in content:
        names = ", ".join(content["multipart/form-data"]["schema"]["properties"])
        return f"<p>A form (<code>multipart/form-data</code>) with the fields: {escape(names)}.</p>"
    return send


def _example(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        return _example(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return _example(document, schema["anyOf"][0]) if "$ref" in schema["anyOf"][0] else schema.get("default")
    if "properties" in schema:
        return {name: _example(document, each) for name, each in schema["properties"].items()}
    if "enum" in schema:
        return schema["enum"][0]
    return schema.get("default", [] if schema.get("type") == "array" else "")
