"""Other processes, full disks, a Python without pip, a hub: each in a process of its own."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from weights_world import SOURCE, World, build_wheel, entry

from facellava.weights import locked

ONE = bytes(range(256)) * 2000
PLACE = {"kind": "package", "package": "carrier", "version": "1.0", "member": "one.dat"}
REPORT = """
from facellava.errors import FacellavaError
try:
    print("PATH", resolve("one", register=register, progress=lambda what, *_: print(what, flush=True)))
except FacellavaError as error:
    print("ERROR", error.code, error)
"""


@pytest.fixture
def ready(world: World) -> World:
    build_wheel(world.index, "carrier", "1.0", {"one.dat": ONE})
    world.register(entry("one", ONE, **PLACE))
    return world


def last_line(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out.splitlines()[-1]


def test_two_processes_pull_once(ready: World) -> None:
    with locked(ready.cache / "locks" / "carrier-1.0.lock"):
        both = [ready.start(REPORT) for _ in range(2)]
        for process in both:
            assert process.stdout
            assert "waiting for another process" in process.stdout.readline()
    outs = [process.communicate(timeout=120)[0] for process in both]
    paths = {out.splitlines()[-1] for out in outs}
    assert len(paths) == 1
    assert Path(paths.pop().removeprefix("PATH ")).read_bytes() == ONE
    assert sum("downloading" in out for out in outs) == 1, "the second finds the first one's file"


def test_killed_process_leaves_nothing_in_the_way(ready: World) -> None:
    process = ready.start(REPORT)
    assert process.stdout
    assert "downloading" in process.stdout.readline()
    process.kill()
    process.communicate(timeout=60)
    path = Path(last_line(ready.start(REPORT)).removeprefix("PATH "))
    assert path.read_bytes() == ONE
    assert [name for name in ready.stored() if not name.endswith("one.bin")] == []


def test_file_size_limit_is_one_line_and_leaves_nothing(ready: World) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    line = last_line(ready.start(limit + REPORT))
    assert line.startswith("ERROR no_space no space left for")
    assert ready.stored() == []


def test_full_disk_is_one_line_and_leaves_nothing(ready: World) -> None:
    """A file system of 600 KB takes the wheel of 512 KB, and then not the weight."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1) to mount a small file system")
    script = f'mount -t tmpfs -o size=600k tmpfs {ready.cache} && exec {sys.executable} -c "$CODE" && exit 0'
    ready.cache.mkdir()
    code = (
        "import shutil\nfrom pathlib import Path\nfrom facellava.weights import Register, resolve, resolver\n"
        f"register = Register.read(Path({str(ready.register_path)!r}))\n"
        # the check beforehand would refuse politely; here the disk fills up after it
        "resolver._require_space = lambda wanted: None\n"
        f"{REPORT}\n"
        f"print(sorted(p.name for p in Path({str(ready.cache)!r}).rglob('*') if p.suffix in ('.whl', '.bin', '.part')))"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script],
        env={**os.environ, "PYTHONPATH": SOURCE, "CODE": code},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    lines = done.stdout.splitlines()
    assert lines[-2].startswith("ERROR no_space no space left for"), done.stdout + done.stderr
    assert lines[-1] == "[]"


def test_python_without_pip(ready: World) -> None:
    bare = ready.root / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True, timeout=60)
    line = last_line(ready.start(REPORT, python=str(bare / "bin" / "python")))
    assert line.startswith("ERROR weights_unavailable")
    assert "-m ensurepip" in line


class _Hub(http.server.BaseHTTPRequestHandler):
    """The two requests of a hub download: metadata, then bytes."""

    content = ONE
    revision = "a" * 40

    def _answer(self) -> bytes:
        wanted = f"/some/model/resolve/{self.revision}/weights.dat"
        body = self.content if self.path == wanted else b'{"error":"no"}'
        self.send_response(200 if self.path == wanted else 404)
        if self.path != wanted:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.revision)
        self.end_headers()
        return body

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("file", "expected"), [("weights.dat", "PATH"), ("absent.dat", "ERROR weights_unavailable")])
def test_hub(world: World, file: str, expected: str) -> None:
    pytest.importorskip("huggingface_hub", reason="needs the torch extra")
    source = {"kind": "hub", "repo": "some/model", "revision": _Hub.revision, "file": file}
    world.register(entry("one", ONE, **source))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        env = {"HF_ENDPOINT": address, "HF_HOME": str(world.root / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        line = last_line(world.start(REPORT, **env))
    finally:
        server.shutdown()
        server.server_close()
    assert line.startswith(expected), line
    if expected == "PATH":
        assert Path(line.removeprefix("PATH ")).read_bytes() == ONE
        assert len(world.stored()) == 1


def test_warm_resolve_reads_no_package_index_and_imports_little(ready: World) -> None:
    """A warm start must stay cheap: no pip, no network library."""
    assert last_line(ready.start(REPORT)).startswith("PATH")
    code = "import sys, json\nresolve('one', register=register, offline=True)\nprint(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(last_line(ready.start(code))))
    assert not loaded & {"pip", "huggingface_hub", "requests", "torch", "numpy"}
