"""The queue and its thread: full, slow, given up, shared, and at its end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import openai
import pytest
from server_world import (
    Running,
    chat,
    data_url,
    decoder,
    error_of,
    events,
    head,
    picture,
    picture_url,
    serving,
    until,
    video,
    warm,
)

from facellava.analyzer import Analyzer
from facellava.interrupt import poll, watched

LONG = {"max_tokens": 300}


@pytest.fixture
def slow(model: Analyzer) -> Iterator[Running]:
    """A server whose answers take about ten seconds, with room for one waiting request; the face is read already."""
    with serving(model, queue=1, grace=1.0) as running:
        warm(running, model)
        decoder(model).seconds, decoder(model).never_ends = 0.03, True
        yield running
        decoder(model).seconds = 0.0


class Background:
    """Requests on their way, in threads."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.responses: list[httpx.Response] = []
        self.threads: list[threading.Thread] = []

    def send(self, **fields: Any) -> None:
        thread = threading.Thread(target=lambda: self.responses.append(self.running.ask(**fields)), daemon=True)
        thread.start()
        self.threads.append(thread)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(60)


def busy(running: Running, waiting: int) -> bool:
    queue = running.service.queue
    return queue._running is not None and len(queue._waiting) == waiting


def begin(running: Running, **fields: Any) -> socket.socket:
    """Send a request by hand, so that its connection can be cut."""
    host, port = running.url.removeprefix("http://").split(":")
    body = json.dumps(chat(**LONG, **fields)).encode()
    connection = socket.create_connection((host, int(port)), timeout=30)
    lines = ("content-type: application/json", f"content-length: {len(body)}")
    connection.sendall(head("/v1/chat/completions", *lines) + body)
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot_within_a_second(slow: Running, stream: bool) -> None:
    connection = begin(slow, stream=stream)
    until(lambda: busy(slow, 0))
    if stream:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    connection.close()
    assert until(lambda: slow.service.queue.idle) < 1.0
    until(lambda: slow.measure("facellava_stopped_jobs_total", reason="gone") == 1)
    until(lambda: slow.measure("facellava_requests_total", route="/v1/chat/completions", status="499") >= (not stream))


CLIENT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connection.sendall(sys.stdin.buffer.read())
connection.recv(1 << 20), connection.recv(1 << 20)
"""


def test_a_client_that_is_killed_frees_its_slot_within_a_second(slow: Running) -> None:
    """A process of its own, by SIGKILL: nobody closes its connection but the system."""
    host, port = slow.url.removeprefix("http://").split(":")
    body = json.dumps(chat(**LONG)).encode()
    lines = ("content-type: application/json", f"content-length: {len(body)}")
    client = subprocess.Popen([sys.executable, "-S", "-c", CLIENT, host, port], stdin=subprocess.PIPE)
    assert client.stdin is not None
    with client.stdin as pipe:
        pipe.write(head("/v1/chat/completions", *lines) + body)
    until(lambda: busy(slow, 0))
    client.kill()
    assert until(lambda: slow.service.queue.idle) < 1.0
    client.wait(10)


def test_a_client_that_leaves_the_queue_frees_its_place(slow: Running) -> None:
    first = begin(slow)
    until(lambda: busy(slow, 0))
    second = begin(slow)
    until(lambda: busy(slow, 1))
    assert slow.ask().status_code == 503
    second.close()
    assert until(lambda: busy(slow, 0)) < 1.0
    first.close()
    assert until(lambda: slow.service.queue.idle) < 1.0


def test_the_official_client_can_break_off_a_stream(slow: Running, model: Analyzer) -> None:
    stream = slow.openai.chat.completions.create(**chat(**LONG) | {"model": model.name, "stream": True})
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    stream.close()
    assert until(lambda: slow.service.queue.idle) < 1.0


def test_a_full_queue_says_when_to_come_again(slow: Running) -> None:
    background = Background(slow)
    for waiting in (0, 1):
        background.send(max_tokens=40)
        until(lambda waiting=waiting: busy(slow, waiting))
    for path in ("/v1/chat/completions", "/v1/score", "/v1/analyze"):
        response = slow.http.post(path, json=chat())
        assert (response.status_code, error_of(response)["code"]) == (503, "queue_full")
        assert int(response.headers["retry-after"]) >= 1
    assert slow.measure("facellava_queue_length") == 1
    assert slow.measure("facellava_running") == 1
    assert slow.http.get("/healthz").status_code == 200
    background.join()
    assert [response.status_code for response in background.responses] == [200, 200]


def test_the_official_client_hears_of_a_full_queue(slow: Running) -> None:
    background = Background(slow)
    for waiting in (0, 1):
        background.send(max_tokens=40)
        until(lambda waiting=waiting: busy(slow, waiting))
    with pytest.raises(openai.InternalServerError, match="try again"):
        slow.openai.chat.completions.create(**chat())
    background.join()


def test_answers_that_take_too_long(model: Analyzer) -> None:
    with serving(model, seconds=1.5, queue=2) as running:
        warm(running, model)
        decoder(model).seconds, decoder(model).never_ends = 0.03, True
        background = Background(running)
        for _ in range(3):
            background.send(**LONG)
        background.join()
        for response in background.responses:  # two of them never left the queue
            assert (response.status_code, error_of(response)["code"]) == (504, "timeout")
        assert until(lambda: running.service.queue.idle) < 1.0
        found = events(running.ask(**LONG, stream=True))
        assert json.loads(found[0])["choices"][0]["delta"]["role"] == "assistant"
        assert json.loads(found[-1])["error"]["code"] == "timeout"
        with pytest.raises(openai.APIError, match="within"):
            list(running.openai.chat.completions.create(**chat(**LONG), stream=True))


def test_a_client_that_does_not_read_is_cut_off(model: Analyzer) -> None:
    with serving(model, seconds=1.0) as running:
        warm(running, model)
        decoder(model).seconds, decoder(model).never_ends = 0.03, True
        connection = begin(running, stream=True)
        until(lambda: busy(running, 0))
        assert until(lambda: running.service.queue.idle) < 5.0
        connection.close()


def test_a_shutdown_lets_running_requests_finish(model: Analyzer) -> None:
    with serving(model, grace=20.0) as running:
        warm(running, model)
        decoder(model).seconds, decoder(model).never_ends = 0.03, True
        background = Background(running)
        background.send(max_tokens=60)
        until(lambda: busy(running, 0))
        background.send(max_tokens=10)
        until(lambda: busy(running, 1))
        running.server.stop()
        until(lambda: running.http.get("/healthz").status_code == 503)
        response = running.ask()
        assert (response.status_code, error_of(response)["code"]) == (503, "shutting_down")
        assert "retry-after" in response.headers
        background.join()
        assert [r.status_code for r in background.responses] == [200, 200]


def test_a_shutdown_does_not_wait_for_ever(slow: Running) -> None:
    background = Background(slow)
    for waiting in (0, 1):
        background.send(**LONG)
        until(lambda waiting=waiting: busy(slow, waiting))
    start = time.monotonic()
    slow.server.stop()
    background.join()
    assert time.monotonic() - start < 6
    assert [error_of(response)["code"] for response in background.responses] == ["shutting_down"] * 2


def test_twenty_threads_are_each_answered_once(model: Analyzer) -> None:
    with serving(model, queue=64) as running:
        seen = warm(running, model)
        running.service.faces.forget(everything=True)
        expected = {n: "".join(model.engine.ask(seen, f"Question {n}?", max_new_tokens=12)) for n in range(20)}

        def ask(number: int) -> tuple[int, list[str]]:
            texts = []
            for stream in (False, True):
                response = running.ask(f"Question {number}?", stream=stream)
                assert response.status_code == 200
                if stream:
                    pieces = [json.loads(line)["choices"][0]["delta"] for line in events(response)[:-1]]
                    texts.append("".join(piece.get("content", "") for piece in pieces))
                else:
                    texts.append(response.json()["choices"][0]["message"]["content"])
            return number, texts

        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(ask, range(20)))
        assert dict(answers) == {n: [text, text] for n, text in expected.items()}
        route = {"route": "/v1/chat/completions", "status": "200"}
        assert running.measure("facellava_requests_total", **route) == 40
        assert running.measure("facellava_faces_total", cache="miss") == 1
        assert running.measure("facellava_faces_total", cache="hit") == 39


def test_more_clients_than_room_are_answered_or_refused(slow: Running) -> None:
    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(lambda _: slow.ask(max_tokens=8), range(20)))
    counts = Counter(response.status_code for response in responses)
    assert set(counts) == {200, 503}
    assert 2 <= counts[200] < 20
    assert all(r.json()["usage"]["completion_tokens"] == 8 for r in responses if r.status_code == 200)


def test_nothing_is_remembered_where_nothing_may_be(model: Analyzer) -> None:
    with serving(model, cache=0) as running:
        answers = [running.ask(max_tokens=1).json() for _ in range(2)]
        assert [a["usage"]["prompt_tokens_details"]["cached_tokens"] for a in answers] == [0, 0]
        assert running.measure("facellava_cache_bytes") == 0


def test_the_memory_of_faces_has_a_limit(model: Analyzer) -> None:
    with serving(model, cache=700_000) as running:
        for number in range(4):
            assert running.http.post("/v1/score", json=scored(picture() + bytes([number]))).status_code == 200
        assert 0 < running.measure("facellava_cache_bytes") <= 700_000
        assert len(running.service.faces._kept) < 8


def scored(data: bytes) -> dict[str, Any]:
    return {"media": data_url(data), "question": "Smiling?", "options": ["yes", "no"]}


def test_faces_are_forgotten_in_time(model: Analyzer) -> None:
    with serving(model, cache_seconds=0.2) as running:
        assert running.ask(max_tokens=1).status_code == 200
        time.sleep(0.3)
        again = running.ask(max_tokens=1).json()
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        running.service.faces.forget()
        until(lambda: running.measure("facellava_cache_bytes") == 0)


def test_a_video_is_given_up_between_frames(model: Analyzer) -> None:
    calls = 0

    class Enough(Exception):
        pass

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 40:  # past the packets, amid detection
            raise Enough

    with pytest.raises(Enough), watched(check):
        model.clips(video())
    poll()  # nobody listens any more
    assert calls == 40


def test_an_analysis_is_given_up(slow: Running, model: Analyzer) -> None:
    decoder(model).seconds = 0.2
    body = json.dumps({"media": picture_url()}).encode()
    host, port = slow.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    lines = ("content-type: application/json", f"content-length: {len(body)}")
    connection.sendall(head("/v1/analyze", *lines) + body)
    until(lambda: busy(slow, 0))
    connection.close()
    assert until(lambda: slow.service.queue.idle) < 1.0
