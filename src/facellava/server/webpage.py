"""The page at ``/``: hand-written HTML, CSS and JavaScript modules out of ``page/``, nothing from anywhere else.

Every file but the page itself lies under a name that changes with its content, so that browsers may keep it for good;
the page is asked for again each time. A strict policy forbids scripts, styles and connections from elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from fastapi.responses import Response

from facellava import __version__, tasks
from facellava.notice import TEXT
from facellava.server.problems import Problem

__all__ = ["POLICY", "Page"]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {"css": "text/css", "js": "text/javascript", "json": "application/json", "svg": "image/svg+xml"}
_SAFE = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_FRONT = "index.html"


@dataclass(frozen=True, slots=True)
class Page:
    """The files of the page.

    Attributes:
        html: the page itself. version: of its files, a digest of all of them. files: by name.
    """

    html: bytes
    version: str
    files: dict[str, bytes]

    @classmethod
    @cache
    def load(cls) -> Page:
        """Read the files that the package brings."""
        folder = resources.files("facellava.server") / "page"
        found = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        front = found.pop(_FRONT).decode("utf-8")
        found["words.json"] = json.dumps(_words()).encode("ascii")
        whole = hashlib.sha256()
        for name in sorted(found):
            whole.update(name.encode() + b"\0" + found[name] + b"\0")
        version = whole.hexdigest()[:16]
        for mark, value in {"VERSION": version, "PACKAGE": __version__, "NOTICE": TEXT}.items():
            front = front.replace("{{" + mark + "}}", escape(value))
        return cls(front.encode("utf-8"), version, found)

    def front(self, known: str) -> Response:
        """The page, or 304 where the browser has it. ``known``: the request's If-None-Match."""
        tag = f'"{hashlib.sha256(self.html).hexdigest()[:16]}"'
        headers = {**_SAFE, "cache-control": "no-cache", "etag": tag}
        if tag in known:
            return Response(status_code=304, headers=headers)
        return Response(self.html, headers=headers, media_type="text/html; charset=utf-8")

    def asset(self, version: str, name: str) -> Response:
        """One of its files. Raises Problem: 404 for what is not there, and for another version's."""
        if version != self.version or name not in self.files:
            raise Problem(404, "not_found", "there is no such file: load the page again")
        headers = {**_SAFE, "cache-control": "public, max-age=31536000, immutable"}
        kind = _TYPES[name.rpartition(".")[2]]
        return Response(self.files[name], headers=headers, media_type=f"{kind}; charset=utf-8")


def _words() -> dict[str, Any]:
    """What the page says about tasks and labels, from where everybody else has it."""
    return {
        "notice": TEXT,
        "tasks": {
            name: {
                "title": task.title,
                "labels": {
                    label.name: {"text": label.text, "regions": label.regions, "default": label.default}
                    for label in task.labels
                },
            }
            for name, task in tasks.all_tasks().items()
        },
    }
