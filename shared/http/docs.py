"""/docs: the OpenAPI document as one page to read and to try, without anything from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

CODE = re.compile("`([^`]+)`")
BODY_ROWS_MAX = 16
STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--mark:#0a6}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{border-top:1px solid var(--line);padding-top:1.5rem;font-size:1.1rem}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}
pre{background:var(--soft);padding:.8rem;overflow:auto;border-radius:.4rem}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0}
td,th{border-bottom:1px solid var(--line)}
.method{color:var(--mark);font-weight:600}
input,textarea{font:inherit;padding:.2rem .4rem;margin:0 .8rem .4rem 0}
textarea{display:block;width:100%;box-sizing:border-box;font:.9em ui-monospace,monospace}
"""
# Asks the API from the page; the key stays in the page and is forgotten with it.
SCRIPT = """
document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, shown = form.querySelector("output");
  const query = new URLSearchParams();
  const headers = { Authorization: "Bearer " + document.getElementById("key").value.trim() };
  let path = form.dataset.path, sent;
  for (const field of form.querySelectorAll("input")) {
    if (field.dataset.in === "path")
      path = path.replace("{" + field.name + "}", encodeURIComponent(field.value));
    else if (field.dataset.in === "header")
      headers[field.name] = field.value || Date.now() + "-" + Math.random();
    else if (field.value) query.set(field.name, field.value);
  }
  const address = path.slice(1) + (String(query) && "?" + query);
  const text = form.querySelector("textarea")?.value.trim();
  if (text) { sent = text; headers["Content-Type"] = "application/json"; }
  try {
    const answer = await fetch(address, { method: form.dataset.method, headers, body: sent });
    let body = await answer.text();
    try { body = JSON.stringify(JSON.parse(body), null, 1); } catch { }
    shown.innerHTML = "<pre></pre>";
    shown.firstChild.textContent = answer.status + " " + answer.statusText + "\\n" + body;
  } catch (error) { shown.textContent = String(error); }
});
"""


def page(schema: Mapping[str, Any]) -> str:
    """The page for one service's OpenAPI document."""
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    operations = [
        (path, method, operation)
        for path, methods in schema.get("paths", {}).items()
        for method, operation in methods.items()
    ]
    components = schema.get("components", {}).get("schemas", {})
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
        "<p>The same for machines: <a href=openapi.json>openapi.json</a>. Every route needs "
        "<code>Authorization: Bearer &lt;key&gt;</code>. Also here: <a href=livez>livez</a>, "
        "<a href=readyz>readyz</a>, <a href=metrics>metrics</a>.</p>"
        "<p><label>Key <input id=key type=password autocomplete=off size=50></label></p>"
        + "".join(_operation(*item, components) for item in operations)
        + f"<script>{SCRIPT}</script></html>"
    )


def _operation(
    path: str, method: str, operation: Mapping[str, Any], components: Mapping[str, Any]
) -> str:
    scopes = ", ".join(f"<code>{escape(scope)}</code>" for scope in operation.get("x-scopes", ()))
    parameters = operation.get("parameters", ())
    body = _schema(operation.get("requestBody", {}), components)
    return (
        f"<h2><span class=method>{method.upper()}</span> <code>{escape(path)}</code></h2>"
        f"<p><b>{_text(operation.get('summary', ''))}.</b> {_text(operation.get('description', ''))}</p>"
        f"<p>Scope: {scopes}</p>"
        + _table(("Parameter", "In", "About"), (_parameter(p) for p in parameters))
        + _table(("Field of the body", "About"), _fields(body))
        + _form(path, method, parameters, body)
        + _table(("Status", "Answer"), _answers(operation["responses"], components))
    )


def _form(
    path: str, method: str, parameters: Iterable[Mapping[str, Any]], body: Mapping[str, Any]
) -> str:
    """Fields to ask this operation with, the examples filled in where a value is needed."""
    fields = []
    for parameter in parameters:
        name = escape(parameter["name"])
        # A key of its own is made for each write that names none.
        needed = parameter.get("required", False) and parameter["in"] != "header"
        example = next(iter(parameter.get("schema", {}).get("examples", ())), "")
        fields.append(
            f"<label>{name} <input name={name} data-in={parameter['in']} "
            f'{"required" if needed else ""} value="{escape(str(example)) if needed else ""}" '
            f'placeholder="{escape(str(example))}"></label>'
        )
    if body:
        example = json.dumps(_example(body, {}) or {}, indent=1, ensure_ascii=False)
        rows = min(example.count("\n") + 2, BODY_ROWS_MAX)
        fields.append(f"<textarea aria-label=body rows={rows}>{escape(example)}</textarea>")
    head = f'<form data-method="{method.upper()}" data-path="{escape(path)}">'
    return head + "".join(fields) + "<button>Ask</button><output></output></form>"


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    needed = "" if parameter.get("required") else " (optional)"
    return (
        f"<code>{escape(parameter['name'])}</code>{needed}",
        escape(parameter["in"]),
        _text(parameter.get("description", "")),
    )


def _fields(body: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    required = body.get("required", ())
    for name, field in body.get("properties", {}).items():
        needed = "" if name in required else " (optional)"
        yield f"<code>{escape(name)}</code>{needed}", _text(field.get("description", ""))


def _answers(
    answers: Mapping[str, Any], components: Mapping[str, Any]
) -> Iterable[tuple[str, ...]]:
    for status, answer in sorted(answers.items()):
        schema = _schema(answer, components)
        example = _example(schema, components)
        shown = (
            f"<pre>{escape(json.dumps(example, indent=1, ensure_ascii=False))}</pre>"
            if example
            else ""
        )
        told = answer.get("description", "")
        # FastAPI says this where nobody has said anything.
        if told == "Successful Response":
            told = schema.get("description", "")
        yield escape(status), _text(told) + shown


def _schema(content: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a body or an answer; empty where there is none in JSON."""
    found = content.get("content", {}).get("application/json", {}).get("schema", {})
    return _resolved(next(iter(found.get("anyOf", ())), found), components)


def _resolved(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    found: Mapping[str, Any] = components.get(name, {}) if name else schema
    return found


def _example(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """A schema's own example; a list's is one of its items."""
    own = next(iter(schema.get("examples", ())), None)
    listed = schema.get("properties", {}).get("data", {}).get("items")
    if own is not None or listed is None:
        return own
    item = _example(_resolved(listed, components), components)
    if item is None:
        return None
    paged = "next_cursor" in schema["properties"]
    return {"data": [item]} | ({"next_cursor": None, "has_more": False} if paged else {})


def _text(told: str) -> str:
    """What was written in Markdown: code is marked, the rest is as it is."""
    return CODE.sub(r"<code>\1</code>", escape(told.replace("``", "`")))


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    if not lines:
        return ""
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
