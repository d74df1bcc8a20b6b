"""Pictures by address: from allowed hosts, over real TLS, and from nowhere else."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from server_world import Running, blank, chat, error_of, picture, serving

from facellava.analyzer import Analyzer
from facellava.server.fetch import Connection, Fetcher, is_public
from facellava.server.problems import Problem
from facellava.server.settings import Bounds

HOST = "pictures.example"
BOUNDS = Bounds(url_bytes=300_000, url_seconds=20.0)
HASTY = Bounds(url_seconds=2.0)


class Pictures(BaseHTTPRequestHandler):
    """A host of pictures, and of everything that can go wrong with one."""

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["host"]))  # type: ignore[attr-defined]
        getattr(self, self.path.strip("/").partition("?")[0], self.missing)()

    def log_message(self, *_: object) -> None:
        pass

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def ok(self) -> None:
        self.send(picture(), content_length=str(len(picture())))

    def missing(self) -> None:
        self.send(b"", 404)

    def elsewhere(self) -> None:
        self.send(b"", 302, location="https://pictures.example/ok")

    def packed(self) -> None:
        self.send(b"x", content_encoding="gzip")

    def endless(self) -> None:
        try:
            self.send(b"x")
            for _ in range(100):
                self.wfile.write(b"x" * 10_000)
        except OSError:
            pass

    def cut(self) -> None:
        self.send(b"x", content_length="1000")

    def slow(self) -> None:
        try:
            self.send(b"x", content_length="1000")
            for _ in range(100):
                time.sleep(0.1)
                self.wfile.write(b"x")
        except OSError:
            pass

    def nonsense(self) -> None:
        self.wfile.write(b"this is no HTTP\r\n\r\n")


class Host(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, authority: trustme.CA, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Pictures)
        self.seen: list[tuple[str, str]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, *_: object) -> None:
        pass  # clients that break off are what is tested


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def host(authority: trustme.CA) -> Iterator[Host]:
    server = Host(authority, HOST)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def fetcher(host: Host, authority: trustme.CA, addresses: list[str] | None = None, bounds: Bounds = BOUNDS) -> Fetcher:
    """Takes the test's host for one of the open internet; TLS is checked as ever."""

    async def lookup(_: str) -> list[str]:
        return ["93.184.216.34"] if addresses is None else addresses

    async def dial(address: str, name: str) -> Connection:
        assert address == "93.184.216.34"
        context = ssl.create_default_context()
        authority.configure_trust(context)
        port = host.server_address[1]
        return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)

    return Fetcher((HOST, "other.example"), bounds, lookup=lookup, dial=dial)


def test_a_picture_of_an_allowed_host(host: Host, authority: trustme.CA) -> None:
    found = asyncio.run(fetcher(host, authority).fetch(f"https://{HOST}/ok?size=1"))
    assert found == picture()
    assert host.seen[-1] == ("/ok?size=1", HOST)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("missing", 502, "fetch_failed"),
        ("elsewhere", 400, "redirect_refused"),
        ("packed", 502, "fetch_failed"),
        ("endless", 413, "media_too_large"),
        ("cut", 502, "fetch_failed"),
        ("slow", 504, "fetch_timeout"),
        ("nonsense", 502, "fetch_failed"),
    ],
)
def test_hosts_that_misbehave(host: Host, authority: trustme.CA, path: str, status: int, code: str) -> None:
    bounds = HASTY if code == "fetch_timeout" else BOUNDS
    with pytest.raises(Problem) as caught:
        asyncio.run(fetcher(host, authority, bounds=bounds).fetch(f"https://{HOST}/{path}"))
    assert (caught.value.status, caught.value.code) == (status, code)


def test_a_certificate_of_another_host(host: Host, authority: trustme.CA) -> None:
    with pytest.raises(Problem) as caught:
        asyncio.run(fetcher(host, authority).fetch("https://other.example/ok"))
    assert caught.value.code == "fetch_failed"


@pytest.mark.parametrize(
    "address",
    [
        f"http://{HOST}/ok",
        f"https://{HOST}:8443/ok",
        f"https://{HOST}.evil.example/ok",
        f"https://evil.example/{HOST}",
        f"https://user:word@{HOST}/ok",
        f"https://{HOST}@evil.example/ok",
        f"https://sub.{HOST}/ok",
        f"https://{HOST}./ok",
        f"https://{HOST}/a b",
        f"https://{HOST}/\r\nhost: evil.example",
        f"https://{HOST}/\u00e9",
        "https://",
        "https://[",
        f"https://{HOST}:99999/",
    ],
)
def test_other_addresses_are_refused(host: Host, authority: trustme.CA, address: str) -> None:
    before = len(host.seen)
    with pytest.raises(Problem) as caught:
        asyncio.run(fetcher(host, authority).fetch(address))
    assert (caught.value.status, caught.value.code) == (400, "address_refused")
    assert len(host.seen) == before


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "192.168.0.1",
    "172.16.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "::1",
    "::",
    "fe80::1%eth0",
    "fc00::1",
    "::ffff:127.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(host: Host, authority: trustme.CA, address: str) -> None:
    assert not is_public(address)
    for addresses in ([address], ["93.184.216.34", address]):
        with pytest.raises(Problem, match="open internet"):
            asyncio.run(fetcher(host, authority, addresses).fetch(f"https://{HOST}/ok"))


def test_public_addresses() -> None:
    assert all(map(is_public, ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822")))


def test_a_real_look_up_of_a_private_name() -> None:
    with pytest.raises(Problem, match="open internet"):
        asyncio.run(Fetcher(("localhost",), BOUNDS).fetch("https://localhost/ok"))


def test_a_name_that_is_not_known() -> None:
    with pytest.raises(Problem) as caught:
        asyncio.run(Fetcher(("nowhere.invalid",), Bounds(url_seconds=5)).fetch("https://nowhere.invalid/"))
    assert caught.value.code in ("fetch_failed", "fetch_timeout")


def test_a_question_about_a_fetched_picture(model: Analyzer, host: Host, authority: trustme.CA) -> None:
    def ask(running: Running, path: str) -> int:
        request = chat(max_tokens=2)
        request["messages"][0]["content"][0]["image_url"]["url"] = f"https://{HOST}/{path}"
        response = running.http.post("/v1/chat/completions", json=request)
        if response.status_code != 200:
            assert error_of(response)["param"] == "messages.0.content.0.image_url.url"
        return response.status_code

    with serving(model, url_hosts=(HOST,), fetcher=fetcher(host, authority)) as running:
        assert [ask(running, path) for path in ("ok", "elsewhere", "missing")] == [200, 400, 502]
    assert blank()
