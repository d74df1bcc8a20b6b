"""Fetching a picture that a client names, where the operator allows it: exact hosts, https, public addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import h11

from facellava.server.problems import Problem
from facellava.server.settings import Bounds

__all__ = ["Fetcher", "is_public", "resolve"]

Resolve = Callable[[str], Awaitable[list[str]]]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[str, str], Awaitable[Connection]]

PORT = 443
CHUNK = 65_536


async def resolve(host: str) -> list[str]:
    """The addresses of a host name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, PORT, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


async def connect(address: str, host: str) -> Connection:
    """A TLS connection to an address whose certificate is the host's. Raises OSError."""
    return await asyncio.open_connection(address, PORT, ssl=ssl.create_default_context(), server_hostname=host)


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, also where it is written inside of an IPv6 address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if found in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
    return found.is_global and not found.is_multicast


class Fetcher:
    """Fetches from allowed hosts and from nowhere else.

    The name is looked up once and the connection goes to the address that was checked, so that a second answer of the
    name service changes nothing.

    Args:
        hosts: exact names. lookup, dial: other ways to the network, for tests.
    """

    def __init__(
        self, hosts: Sequence[str], bounds: Bounds, *, lookup: Resolve = resolve, dial: Connect = connect
    ) -> None:
        self._hosts, self._bounds = frozenset(hosts), bounds
        self._lookup, self._dial = lookup, dial

    async def fetch(self, url: str) -> bytes:
        """The body behind an address.

        Raises:
            Problem: 400 when it is refused, 413 when it is too large, 502 when it fails, 504 when it takes too long.
        """
        host, target = self._allowed(url)
        try:
            async with asyncio.timeout(self._bounds.url_seconds):
                return await self._from(host, target)
        except TimeoutError as error:
            raise Problem(504, "fetch_timeout", "the picture's host did not answer in time") from error
        except (OSError, h11.RemoteProtocolError) as error:
            raise Problem(502, "fetch_failed", "the picture could not be fetched from its host") from error

    def _allowed(self, url: str) -> tuple[str, str]:
        """Host and request target."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError as error:
            raise Problem(400, "address_refused", "the address is malformed") from error
        plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
        if parts.scheme.lower() != "https" or not plain or port not in (None, PORT) or host not in self._hosts:
            raise Problem(
                400,
                "address_refused",
                "this server fetches nothing from there: give the picture itself as a data URL "
                "(the operator can allow hosts with --allow-url-host)",
            )
        return host, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    async def _from(self, host: str, target: str) -> bytes:
        addresses = await self._lookup(host)
        if not addresses or not all(map(is_public, addresses)):
            raise Problem(400, "address_refused", "the host's address is not one of the open internet")
        reader, writer = await self._dial(addresses[0], host)
        try:
            wire = h11.Connection(h11.CLIENT)
            headers = [("host", host), ("accept-encoding", "identity"), ("connection", "close")]
            request = h11.Request(method="GET", target=target, headers=headers)
            writer.write((wire.send(request) or b"") + (wire.send(h11.EndOfMessage()) or b""))
            await writer.drain()
            return await self._body(wire, reader)
        finally:
            writer.transport.abort()

    async def _body(self, wire: h11.Connection, reader: asyncio.StreamReader) -> bytes:
        body = bytearray()
        while True:
            event = wire.next_event()
            if event is h11.NEED_DATA:
                wire.receive_data(await reader.read(CHUNK))
            elif isinstance(event, h11.Response):
                _require_plain(event)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._bounds.url_bytes:
                    limit = f"{self._bounds.url_bytes:,}"
                    raise Problem(413, "media_too_large", f"what is fetched has at most {limit} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            elif isinstance(event, h11.ConnectionClosed):
                raise OSError("closed before the end")


def _require_plain(response: h11.Response) -> None:
    if 300 <= response.status_code < 400:
        raise Problem(400, "redirect_refused", "the address leads elsewhere, and redirects are not followed")
    if response.status_code != 200:
        raise Problem(502, "fetch_failed", f"the picture's host answered with status {response.status_code}")
    if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in response.headers):
        raise Problem(502, "fetch_failed", "the picture's host sent it compressed, which was not asked for")
