"""Who may call: the Host header against DNS rebinding, the Origin header against foreign web pages, the API key."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence

from facellava.server.problems import Problem
from facellava.server.settings import ServerSettings

__all__ = ["Access"]

OPEN_PATHS = frozenset({"/", "/healthz", "/docs", "/openapi.json"})
"""Readable without a key: they say nothing that this package's documentation does not say."""
PAGE = "/page/"
"""Where the files of the page at ``/`` lie, which are as open."""

RawHeaders = Sequence[tuple[bytes, bytes]]


class Access:
    """The rules of one server."""

    def __init__(self, settings: ServerSettings) -> None:
        self._names = frozenset({"localhost", settings.host.lower(), *settings.names})
        self._origins = frozenset(settings.origins)
        self._key = settings.api_key.encode()

    def check(self, path: str, scheme: str, headers: RawHeaders) -> None:
        """Raise Problem unless a request with these headers (names in lower case) may be looked at."""
        host = self._host(headers)
        origins = _values(headers, b"origin")
        if any(origin not in self._origins and origin != f"{scheme}://{host}" for origin in origins):
            raise Problem(403, "foreign_origin", "pages of other web sites may not call this server")
        if self._key and path not in OPEN_PATHS and not path.startswith(PAGE):
            self._require_key(headers)

    def _host(self, headers: RawHeaders) -> str:
        """A page whose name was rebound to this machine still sends that name; addresses cannot be rebound."""
        found = _values(headers, b"host")
        if len(found) != 1:
            raise Problem(400, "bad_host", "a request has one Host header")
        name = _without_port(found[0])
        if name not in self._names and not _is_address(name):
            raise Problem(421, "unknown_host", "this server does not go by that name: start it with --server-name NAME")
        return found[0]

    def _require_key(self, headers: RawHeaders) -> None:
        found = _values(headers, b"authorization")
        scheme, _, key = found[0].partition(" ") if len(found) == 1 else ("", "", "")
        if scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode("latin-1"), self._key):
            return
        challenge = {"www-authenticate": "Bearer"}
        raise Problem(401, "invalid_api_key", "a valid API key is needed: Authorization: Bearer KEY", headers=challenge)


def _values(headers: RawHeaders, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _without_port(host: str) -> str:
    """``[::1]:80`` -> ``::1``, ``localhost:80`` -> ``localhost``."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
