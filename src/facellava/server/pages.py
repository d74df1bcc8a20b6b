"""A page that lists the interface, made from its own description: no scripts, nothing from anywhere else."""

from __future__ import annotations

from html import escape
from typing import Any

from facellava import __version__
from facellava.notice import TEXT

__all__ = ["HEADERS", "documentation"]

HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#8882;padding:.1em .3em;border-radius:.2em}td{padding:.3rem .8rem .3rem 0;vertical-align:top}"
    "pre{white-space:pre-wrap;background:#8881;padding:1rem}@media(prefers-color-scheme:dark){body{background:#111;"
    "color:#ddd}a{color:#8bf}}"
)


def documentation(interface: dict[str, Any]) -> str:
    """HTML of an OpenAPI description."""
    rows = "".join(
        f"<tr><td><code>{escape(method.upper())}&nbsp;{escape(path)}</code></td>"
        f"<td>{escape(str(operation.get('summary', '')))}</td></tr>"
        for path, methods in interface["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>facellava {escape(__version__)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>facellava {escape(__version__)}</h1><pre>{escape(TEXT)}</pre><table>{rows}</table>"
        '<p>Every field: <a href="/openapi.json">openapi.json</a>. Examples and limits: docs/server.md.</p>'
        "</body></html>"
    )
