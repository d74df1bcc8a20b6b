"""How a server is set up: where it listens, who may use it, and where its limits are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from facellava.analyzer import Mode
from facellava.errors import ApiKeyNeeded, UsageError
from facellava.face import Limits
from facellava.llm.address import is_local

__all__ = ["Bounds", "ServerSettings"]

MIB = 1 << 20
SHORTEST_KEY = 16
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a request may ask for at most. Sizes are bytes, times seconds.

    Attributes:
        body: of one request. body_seconds: until it has arrived. bodies: of all requests together.
        header_seconds: until a request's head has arrived. connections, requests: at a time.
        depth: of JSON. items: objects, lists, texts and commas in it. messages: of a conversation. texts: letters of a
            conversation, or of a question and its options. schema: letters of a JSON schema.
        pictures: of a message; together they are a video. pixels: of one. video_seconds, video_frames: of a video.
        memory: of a video's decoded frames; of larger ones fewer are looked at.
        answer: tokens that may be asked for. options: to be scored. option_tokens: of all of them.
        uploads: all files together. upload_count: files. upload_seconds: until one is forgotten.
        url_bytes, url_seconds: of a picture or video that is fetched.
    """

    body: int = 64 * MIB
    body_seconds: float = 60.0
    bodies: int = 512 * MIB
    header_seconds: float = 10.0
    connections: int = 512
    requests: int = 256
    depth: int = 32
    items: int = 20_000
    messages: int = 64
    texts: int = 65_536
    schema: int = 16_384
    pictures: int = 64
    pixels: int = 40_000_000
    video_seconds: float = 120.0
    video_frames: int = 14_400
    memory: int = 512 * MIB
    answer: int = 1024
    options: int = 64
    option_tokens: int = 1024
    uploads: int = 256 * MIB
    upload_count: int = 64
    upload_seconds: float = 3600.0
    url_bytes: int = 32 * MIB
    url_seconds: float = 15.0

    def media(self) -> Limits:
        """As the decoder takes them."""
        return Limits(
            max_pixels=self.pixels,
            max_bytes=self.body,
            max_duration=self.video_seconds,
            max_count=self.video_frames,
            max_memory=self.memory,
        )


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """A server's settings.

    Attributes:
        host: address to listen on; other machines can reach all but loopback addresses.
        port: 0 takes a free one.
        api_key: clients send it as ``Authorization: Bearer KEY``; "" for none, on loopback only.
        names: host names, besides addresses and ``localhost``, under which clients may call.
        origins: web origins, such as ``https://example.org``, whose pages may call.
        url_hosts: hosts that pictures may be fetched from, by https.
        mode: ``movements`` reports action units only, and answers no free question.
        queue: requests that may wait for the model.
        seconds: from a request's acceptance to the end of its answer.
        grace: seconds that running requests get at shutdown.
        cache: bytes of read faces that are remembered in memory; 0 remembers none.
        cache_seconds: how long after its last use.
        licence: of the model, as far as it is known.
        bounds: see there.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = field(default="", repr=False)
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    url_hosts: tuple[str, ...] = ()
    mode: Mode = "full"
    queue: int = 16
    seconds: float = 120.0
    grace: float = 30.0
    cache: int = 256 * MIB
    cache_seconds: float = 600.0
    licence: str = "not stated"
    bounds: Bounds = field(default_factory=Bounds)

    def checked(self) -> ServerSettings:
        """``self``, if it can be served.

        Raises:
            ApiKeyNeeded: others can reach the server, and there is no key. UsageError: a name, an origin, a key or a
                number is unusable.
        """
        if not is_local(self.host) and not self.api_key:
            raise ApiKeyNeeded(
                f"others can reach {self.host}, so an API key is needed: give --api-key-file, or listen on 127.0.0.1"
            )
        if self.api_key and not (len(self.api_key) >= SHORTEST_KEY and re.fullmatch(r"[!-~]+", self.api_key)):
            raise UsageError(f"an API key has {SHORTEST_KEY} or more printable ASCII characters without spaces")
        for name in (*self.names, *self.url_hosts):
            if not _HOST.fullmatch(name):
                raise UsageError(f"{name!r} is no host name: write it in lower case, without scheme, port or path")
        for origin in self.origins:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or origin != f"{parts.scheme}://{parts.netloc}"
                or not parts.netloc
            ):
                raise UsageError(f"{origin!r} is no origin: write it as https://example.org")
        if self.queue < 1 or min(self.seconds, self.bounds.body, self.bounds.answer) <= 0 or self.cache < 0:
            raise UsageError("queue, time-out and limits have to be positive")
        return self
