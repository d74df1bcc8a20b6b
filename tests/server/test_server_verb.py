"""``facellava serve`` as a process: its refusals to start, its log, its disk, its end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from server_world import KEY, chat, data_url, error_of, picture, until

from facellava import cli
from facellava.errors import MissingExtra, UsageError
from facellava.notice import TEXT
from facellava.server.settings import ServerSettings

SCRIPT = Path(__file__).with_name("serve_tiny.py")


class Process:
    """A server in a process of its own, in an empty folder."""

    def __init__(self, folder: Path, pace: float, *options: str, **environment: str) -> None:
        self.work, self.temporary = folder / "work", folder / "temporary"
        for place in (self.work, self.temporary, folder / "model"):
            place.mkdir()
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(folder / "model"), str(pace), "--port", "0", *options],
                cwd=self.work,
                env={**os.environ, "TMPDIR": str(self.temporary), **environment},
                stdout=log,
                stderr=log,
            )
        until(lambda: "serving" in self.text() or self.process.poll() is not None, 120)
        found = re.search(r"serving (\S+) at (\S+)", self.text())
        assert found, self.text()
        self.url = found[2]
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        until(self.answers, 30)

    def answers(self) -> bool:
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.ConnectError:
            return False

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def end(self, sent: int = signal.SIGTERM) -> int:
        self.process.send_signal(sent)
        return self.process.wait(30)

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[Process] = []

    def call(pace: float, *options: str, **environment: str) -> Process:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Process(folder, pace, *options, **environment))
        return started[-1]

    yield call
    for process in started:
        process.close()


def test_a_signal_ends_it_well(start: Any) -> None:
    server = start(0.03, "--grace", "20")
    warm = server.http.post("/v1/chat/completions", json=chat(max_tokens=1))
    assert warm.status_code == 200
    answers: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: answers.append(server.http.post("/v1/chat/completions", json=chat(max_tokens=80)))
    )
    thread.start()
    until(lambda: "facellava_running 1.0" in server.http.get("/metrics").text)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.http.get("/healthz").status_code == 503)
    refused = server.http.post("/v1/chat/completions", json=chat())
    assert (refused.status_code, error_of(refused)["code"]) == (503, "shutting_down")
    assert refused.headers["connection"] == "close"
    thread.join(60)
    assert answers[0].json()["usage"]["completion_tokens"] == 80
    assert server.process.wait(30) == 0


def test_a_second_signal_ends_it_at_once(start: Any) -> None:
    server = start(0, "--grace", "100")
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n")
        server.process.send_signal(signal.SIGINT)
        until(lambda: server.http.get("/healthz").status_code == 503)
        assert server.end(signal.SIGINT) == 0


def test_the_log_holds_no_content_and_the_disk_nothing(start: Any) -> None:
    server = start(0)
    large = picture() + b"\0" * 3_000_000
    asked = chat("SECRETWORD?", messages=chat("SECRETWORD")["messages"], max_tokens=2)
    assert server.http.post("/v1/chat/completions?SECRETWORD", json=asked).status_code == 200
    file = server.http.post("/v1/files", files={"file": ("SECRETWORD.png", large)}).json()
    assert server.http.get(f"/v1/files/{file['id']}").status_code == 200
    body = {"media": file["id"], "question": "SECRETWORD", "options": ["SECRETWORD", "b"]}
    assert server.http.post("/v1/score", json=body).status_code == 200
    assert server.http.post("/v1/analyze", files={"file": ("SECRETWORD.png", b"SECRETWORD")}).status_code == 415
    assert server.http.get("/SECRETWORD").status_code == 404
    assert server.http.request("SECRETWORD", "/v1/models").status_code == 405
    assert server.end() == 0
    text = server.text()
    assert "SECRETWORD" not in text
    assert file["id"] not in text
    assert re.search(r"Z INFO POST /v1/chat/completions 200 \d+\.\d{3}s \d+ bytes in, id [0-9a-f]{16}", text)
    assert "GET /v1/files/{id} 200" in text
    assert not list(server.work.iterdir())
    assert not list(server.temporary.iterdir())


def test_an_error_of_the_server_is_told_without_words(start: Any) -> None:
    server = start(-1)
    body = {"media": data_url(picture()), "question": "?", "options": ["a", "b"]}
    response = server.http.post("/v1/score", json=body)
    assert (response.status_code, error_of(response)["code"]) == (500, "internal")
    assert "SECRETWORD" not in response.text
    assert server.http.get("/healthz").status_code == 200
    assert server.end() == 0
    assert "RuntimeError" in server.text()
    assert "serve_tiny.py" in server.text()
    assert "SECRETWORD" not in server.text()


def test_the_notice_and_a_key_from_the_environment(start: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    real = Path(os.environ.get("FACELLAVA_CACHE", Path.home() / ".cache" / "facellava"))
    cache.mkdir()
    for name in ("weights", "verified"):
        if (real / name).is_dir():
            (cache / name).symlink_to(real / name)
    server = start(0, FACELLAVA_API_KEY=KEY, FACELLAVA_CACHE=str(cache))
    assert TEXT in server.text()
    assert KEY not in server.text()
    assert server.http.get("/v1/models").status_code == 401
    assert server.http.get("/v1/models", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
    assert server.end() == 0


# --- refusals to start ---


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.delenv("FACELLAVA_API_KEY", raising=False)
    monkeypatch.setenv("FACELLAVA_CACHE", str(tmp_path / "cache"))

    def call(*options: str) -> tuple[int, str]:
        code = cli.run(["serve", *options])
        return code, capsys.readouterr().err.replace(TEXT + "\n", "")

    return call


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "faces.example"])
def test_other_hosts_need_a_key(run: Any, host: str) -> None:
    code, text = run("--host", host)
    assert code == 50
    assert text.startswith("facellava: error: others can reach")
    assert text.count("\n") == 1


def test_a_taken_port(run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, text = run("--port", str(taken.getsockname()[1]))
    assert (code, text.count("\n")) == (51, 1)
    assert "choose another --port" in text


def test_keys_that_are_none(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "key"
    for content, code in ((b"", 2), (b"short", 2), (b"with spaces in it, long", 2), (b"\xff" * 20, 2)):
        file.write_bytes(content)
        assert run("--api-key-file", str(file))[0] == code
    assert run("--api-key-file", str(tmp_path / "nothing"))[0] == 10


@pytest.mark.parametrize(
    "changes",
    [
        {"names": ("https://x.example",)},
        {"url_hosts": ("x.example/path",)},
        {"url_hosts": ("X.example",)},
        {"origins": ("x.example",)},
        {"origins": ("https://x.example/",)},
        {"queue": 0},
        {"seconds": 0},
    ],
)
def test_settings_that_make_no_sense(changes: dict) -> None:
    with pytest.raises(UsageError):
        ServerSettings(**changes).checked()


def test_a_key_is_not_shown() -> None:
    assert KEY not in repr(ServerSettings(api_key=KEY))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)  # as if it were not installed
    code, text = run()
    assert code == MissingExtra.exit_code
    assert "pip install 'facellava[serve]'" in text


@pytest.mark.parametrize("first", ["facellava", "facellava.cli", "facellava.analyzer"])
def test_no_library_reports_to_its_publisher(tmp_path: Path, first: str) -> None:
    """onnxruntime would write an identifier and send events; it leaves a file where it keeps its sessions."""
    code = f"import {first}, onnxruntime as o; o.get_available_providers(); o.InferenceSession"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    places = {"TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env={**environment, **places}, check=True, timeout=120)
    assert not list(tmp_path.iterdir())
