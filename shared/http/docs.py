"""/docs: the OpenAPI document as one page to read and to try, without anything from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

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
input{font:inherit;padding:.2rem .4rem;margin:0 .8rem .4rem 0}
"""
# Asks the API from the page; the key stays in the page and is forgotten with it.
SCRIPT = """
document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, shown = form.querySelector("output");
  const query = new URLSearchParams();
  let path = form.dataset.path;
  for (const field of form.querySelectorAll("input")) {
    if (field.dataset.in === "path")
      path = path.replace("{" + field.name + "}", encodeURIComponent(field.value));
    else if (field.value) query.set(field.name, field.value);
  }
  const address = path.slice(1) + (String(query) && "?" + query);
  const headers = { Authorization: "Bearer " + document.getElementById("key").value.trim() };
  try {
    const answer = await fetch(address, { method: form.dataset.method, headers });
    const text = await answer.text();
    let body = text;
    try { body = JSON.stringify(JSON.parse(text), null, 1); } catch { }
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
    about = escape(operation.get("description", operation.get("summary", "")))
    parameters = operation.get("parameters", ())
    return (
        f"<h2><span class=method>{method.upper()}</span> <code>{escape(path)}</code></h2>"
        f"<p>{about}</p><p>Scope: {scopes}</p>"
        + _table(("Parameter", "In", "About"), (_parameter(p) for p in parameters))
        + _form(path, method, parameters)
        + _table(("Status", "Answer"), _answers(operation["responses"], components))
    )


def _form(path: str, method: str, parameters: Iterable[Mapping[str, Any]]) -> str:
    """Fields to ask this operation with, the examples filled in where a value is needed."""
    fields = []
    for parameter in parameters:
        name, needed = escape(parameter["name"]), parameter.get("required", False)
        example = next(iter(parameter.get("schema", {}).get("examples", ())), "")
        fields.append(
            f"<label>{name} <input name={name} data-in={parameter['in']} "
            f'{"required" if needed else ""} value="{escape(str(example)) if needed else ""}" '
            f'placeholder="{escape(str(example))}"></label>'
        )
    head = f'<form data-method="{method.upper()}" data-path="{escape(path)}">'
    return head + "".join(fields) + "<button>Ask</button><output></output></form>"


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    needed = "" if parameter.get("required") else " (optional)"
    return (
        f"<code>{escape(parameter['name'])}</code>{needed}",
        escape(parameter["in"]),
        escape(parameter.get("description", "")),
    )


def _answers(
    answers: Mapping[str, Any], components: Mapping[str, Any]
) -> Iterable[tuple[str, ...]]:
    for status, answer in sorted(answers.items()):
        example = _example(answer, components)
        shown = f"<pre>{escape(json.dumps(example, indent=1))}</pre>" if example else ""
        yield escape(status), escape(answer.get("description", "")).replace("`", "") + shown


def _example(answer: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    content = answer.get("content", {}).get("application/json", {})
    name = str(content.get("schema", {}).get("$ref", "")).rpartition("/")[2]
    return next(iter(components.get(name, {}).get("examples", ())), None)


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    if not lines:
        return ""
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
