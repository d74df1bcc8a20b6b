"""Real servers on loopback around a tiny model with the real front end, and what their clients send."""

from __future__ import annotations

import base64
import io
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import av
import httpx2 as httpx
import numpy as np
import openai
import pytest
import tiny
from numpy.typing import NDArray
from PIL import Image

from facellava import weights
from facellava.analyzer import Analyzer
from facellava.errors import WeightsUnavailable
from facellava.model.decoder_config import Precision
from facellava.runtime.build import ensure_built
from facellava.runtime.decoder import Decoder, State
from facellava.runtime.engine import Seen
from facellava.runtime.onnx_engine import OnnxEngine
from facellava.server.faces import Found, Medium
from facellava.server.run import Server, listen
from facellava.server.settings import Bounds, ServerSettings

KEY = "a-key-for-tests-only"
QUESTION = "What is it?"


class Paced(Decoder):
    """A decoder that takes its time before every pass, and remembers the lengths that it was asked to read."""

    def __init__(self, inner: Decoder) -> None:
        self.inner, self.max_length = inner, inner.max_length
        self.seconds = 0.0
        self.read: list[int] = []
        self.never_ends = False

    def empty(self) -> State:
        return self.inner.empty()

    def nbytes(self, state: State) -> int:
        return self.inner.nbytes(state)

    def attention(self, state: State, embeds: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.inner.attention(state, embeds)

    def run(
        self,
        state: State,
        embeds: NDArray[np.float32],
        wanted: NDArray[np.int64],
        position_ids: NDArray[np.int64] | None = None,
        bias: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], Any]:
        time.sleep(self.seconds)
        self.read.append(len(embeds))
        logits, past = self.inner.run(state, embeds, wanted, position_ids, bias)
        if self.never_ends:
            logits = logits.copy()
            logits[:, tiny.TOKENS.index("<|im_end|>")] = -np.inf
        return logits, past


def tiny_analyzer(folder: Path, precision: Precision = "int8") -> Analyzer:
    """A language model of random weights over letters behind the real experts and the real front end."""
    try:
        for name in ("facex-expression", "fer-expression", "age-v1", "gender-v1", "clip-vit-b16", "face-mesh"):
            weights.resolve(name)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the face experts' weights: {error}")
    gguf = tiny.write_gguf(folder / "tiny.gguf", tiny.language_weights())
    built = ensure_built(tiny.write_model(folder / "tiny"), folder, lambda _: gguf, precision=precision)
    engine = OnnxEngine(built, weights.resolve)
    engine._decoder = Paced(engine._decoder)
    return Analyzer(engine, weights.resolve)


def decoder(analyzer: Analyzer) -> Paced:
    found = analyzer.engine._decoder
    assert isinstance(found, Paced)
    return found


class Running:
    """A server in a thread of this process."""

    def __init__(self, analyzer: Analyzer, settings: ServerSettings, **parts: Any) -> None:
        self.server = Server(analyzer, settings, listen(settings), **parts)
        self.url = self.server.url
        self.service = self.server.service
        headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        self.http = httpx.Client(base_url=self.url, timeout=60, headers=headers, trust_env=False)
        self._thread = threading.Thread(target=self.server.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        for _ in range(200):
            try:
                if self.http.get("/healthz").status_code == 200:
                    return
            except httpx.ConnectError:
                pass
            time.sleep(0.02)
        raise AssertionError("the server did not come up")

    def stop(self) -> None:
        self.http.close()
        self.openai.close()
        self.server.stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server does not end"

    @cached_property
    def openai(self) -> openai.OpenAI:
        """The official client."""
        key = self.server.settings.api_key or "none"
        http = openai.DefaultHttpxClient(trust_env=False)
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60, http_client=http)

    def ask(self, text: str = QUESTION, **fields: Any) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=chat(text, **fields))

    def measure(self, name: str, **labels: str) -> float:
        """The value of one line of /metrics, 0 where there is none."""
        wanted = "".join(f'(?=[^}}]*{key}="{re.escape(value)}")' for key, value in labels.items())
        found = re.search(rf"^{name}(\{{{wanted}[^}}]*\}})? (\S+)$", self.http.get("/metrics").text, re.MULTILINE)
        return float(found[2]) if found else 0.0


@contextmanager
def serving(analyzer: Analyzer, **changes: Any) -> Iterator[Running]:
    """A server on a free port; ``bounds`` are changes of ``Bounds``."""
    parts = {name: changes.pop(name) for name in ("fetcher",) if name in changes}
    bounds = Bounds(**changes.pop("bounds", {}))
    running = Running(analyzer, ServerSettings(**{"port": 0, "grace": 5.0, **changes}, bounds=bounds), **parts)
    running.start()
    try:
        yield running
    finally:
        running.stop()


@cache
def _read_portrait(analyzer: Analyzer) -> tuple[Found, Seen]:
    media, clips = analyzer.clips(picture())
    found = Found((Medium.of([picture()]).digest, "all"), media.kind, 0.0, tuple(clips))
    return found, analyzer.engine.look(clips[0])


def warm(running: Running, analyzer: Analyzer) -> Seen:
    """Let a server remember the portrait, as if somebody had asked about it."""
    found, seen = _read_portrait(analyzer)
    running.service.faces._put(found.key, found, 1)
    running.service.faces._put((*found.key, found.clips[0].face_id), seen, 1)
    return seen


def chat(text: str = QUESTION, **fields: Any) -> dict[str, Any]:
    """A request with the astronaut in it."""
    content = [{"type": "image_url", "image_url": {"url": picture_url()}}, {"type": "text", "text": text}]
    return {"model": "facellava", "messages": [{"role": "user", "content": content}], "max_tokens": 12, **fields}


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@cache
def picture() -> bytes:
    """NASA's public-domain portrait that scikit-image carries, 256 pixels wide."""
    data = pytest.importorskip("skimage.data")
    return png(np.asarray(Image.fromarray(data.astronaut()).resize((256, 256))))


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def picture_url() -> str:
    return data_url(picture())


@cache
def two_faces() -> bytes:
    """A small and a large face beside each other."""
    face = Image.open(io.BytesIO(picture())).crop((60, 20, 170, 130))
    canvas = Image.new("RGB", (420, 260), "grey")
    canvas.paste(face.resize((145, 145)), (8, 80))
    canvas.paste(face.resize((240, 240)), (160, 10))
    return png(np.asarray(canvas))


@cache
def blank() -> bytes:
    """No face."""
    return png(np.full((64, 64, 3), 128, np.uint8))


@cache
def video(frames: int = 12, rate: int = 8, form: str = "mp4", codec: str = "mpeg4", step: int = 1) -> bytes:
    """The portrait, moving by ``step`` pixels a frame."""
    pixels = np.asarray(Image.open(io.BytesIO(picture())))
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width = stream.height = 256
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            shifted = np.roll(pixels, step * index, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shifted, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def events(response: httpx.Response) -> list[str]:
    """The data of server-sent events."""
    return [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]


def raw(running: Running, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What the server says to these bytes, until it closes the connection."""
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: localhost", *lines, "", ""]).encode()


def until(met: Callable[[], bool], seconds: float = 20.0) -> float:
    """Wait for something; how many seconds it took."""
    start = time.monotonic()
    while not met():
        assert time.monotonic() < start + seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - start


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error, after a look at its shape."""
    found = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert found["message"] and "\n" not in found["message"]
    return found
