"""How faults are made: each way runs a job once under its fault and returns how that ended."""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jobs import WEIGHT, Box, Ended, Job, end, wait_for_volume

Options = Mapping[str, Any]
Way = Callable[[Box, Job, Options], Ended]


def _namespaced(box: Box, script: str, *, net: bool = False) -> Ended:
    """A shell script in a namespace of its own for mounts (and for the network), where the system allows it."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1)")
    kinds = ["--map-root-user", "--mount", *(["--net"] if net else [])]
    probe = subprocess.run(["unshare", *kinds, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"needs namespaces: {probe.stderr.strip()}")
    return box.run(["unshare", *kinds, "sh", "-c", script])


def full_disk(box: Box, job: Job, options: Options) -> Ended:
    """The place is a file system of ``bytes``, or of a ``share`` of what the undisturbed job wrote."""
    size = max(16_384, int(options.get("bytes") or options["share"] * options["whole"]))
    saved, place = box.root / "saved", shlex.quote(str(box.place))
    saved.mkdir()
    ended = _namespaced(
        box,
        f"mount -t tmpfs -o size={size} none {place} && {{ {shlex.join(job.command(box))}; code=$?;"
        f" cp -a {place}/. {shlex.quote(str(saved))}; exit $code; }}",
    )
    shutil.rmtree(box.place)
    saved.rename(box.place)
    return ended


def read_only(box: Box, job: Job, options: Options) -> Ended:
    """The place can be read only; with ``filled`` after a first run that went well."""
    if options.get("filled"):
        assert box.run(job.command(box)).code == 0
    place = shlex.quote(str(box.place))
    script = f"mount --bind {place} {place} && mount -o remount,bind,ro {place} && exec {shlex.join(job.command(box))}"
    return _namespaced(box, script)


def full_output(box: Box, job: Job, options: Options) -> Ended:
    """Standard output goes to a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    return box.run(["sh", "-c", f"exec {shlex.join(job.command(box))} > /dev/full"])


def killed(box: Box, job: Job, options: Options) -> Ended:
    """SIGKILL when a share of the result's bytes is written, and the next start again; the last of these ends."""
    for share in options["shares"]:
        process = box.start(job.command(box))
        wait_for_volume(process, box.place, share * options["whole"])
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        ended = end(process)
    return ended


def twice_at_once(box: Box, job: Job, options: Options) -> Ended:
    """Two processes do the same; how the worse one ended."""
    both = [box.start(job.command(box)) for _ in range(2)]
    return max((end(process) for process in both), key=lambda ended: ended.code)


def damaged(box: Box, job: Job, options: Options) -> Ended:
    """A first run; then files that match ``files`` are damaged as ``how`` says and ``forget`` is removed; a second."""
    first = box.run(job.command(box))
    assert first.code == 0, first.errors
    paths = [Path(found) for found in glob.glob(str(box.place / options["files"]), recursive=True)]
    assert paths, f"no {options['files']}"
    for path in paths:
        damage(path, options["how"])
    for pattern in options.get("forget", ()):
        for found in glob.glob(str(box.place / pattern), recursive=True):
            shutil.rmtree(found) if os.path.isdir(found) else os.unlink(found)
    return box.run(job.command(box))


def damage(path: Path, how: str) -> None:
    """``cut`` to half, ``empty``, ``zeros`` in the middle, ``flip`` a byte of the middle, ``garbage`` in its place."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    if how == "cut":
        del data[middle:]
    elif how == "empty":
        data.clear()
    elif how == "zeros":
        data[middle : middle + 64] = bytes(len(data[middle : middle + 64]))
    elif how == "flip":
        data[middle] ^= 0x40
    else:
        assert how == "garbage", how
        data[:] = b"\x89no such format\n" * 10
    path.write_bytes(data)


def left_over(box: Box, job: Job, options: Options) -> Ended:
    """Half of a download lies where a killed process left it, and half a file where the whole one belongs."""
    for name, data in options["half"].items():
        path = box.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(WEIGHT[: int(data * len(WEIGHT))])
    return box.run(job.command(box))


def clock(box: Box, job: Job, options: Options) -> Ended:
    """The machine's clock is ``start``, and jumps to ``jump`` once the job has written something."""
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not found:
        pytest.skip("needs libfaketime")
    stamp = box.root / "clock"
    stamp.write_text(options["start"])
    box.env |= {
        "LD_PRELOAD": found[0],
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as in life: nobody sets that one
        "NO_FAKE_STAT": "1",
    }
    process = box.start(job.command(box))
    if jump := options.get("jump"):
        wait_for_volume(process, box.place, 1)
        stamp.write_text(jump)
    ended = end(process)
    if "[Errno 22]" in ended.errors:  # clock_nanosleep with an absolute time, which the real one takes after a jump
        pytest.skip("libfaketime refuses a sleep that the jump overtakes")
    return ended


def little_memory(box: Box, job: Job, options: Options) -> Ended:
    """The process may have ``bytes`` of address space."""
    if shutil.which("prlimit") is None:
        pytest.skip("needs prlimit(1)")
    return box.run(["prlimit", f"--as={options['bytes']}", *job.command(box)])


def no_network(box: Box, job: Job, options: Options) -> Ended:
    """Not even loopback is up."""
    _use_index(box, "http://index.invalid/simple")
    return _namespaced(box, f"exec {shlex.join(job.command(box))}", net=True)


def proxy(box: Box, job: Job, options: Options) -> Ended:
    """Everything goes through a proxy that answers as ``answer`` says."""
    with fault_proxy(options["answer"]) as address:
        _use_index(box, "http://index.invalid/simple")
        box.env |= {"http_proxy": address, "https_proxy": address, "HTTP_PROXY": address, "HTTPS_PROXY": address}
        for preset in box.inputs.glob("served.toml"):
            preset.write_text(preset.read_text().replace("http://127.0.0.1:9", "http://service.invalid"))
        return box.run([*job.command(box), *options.get("more", ())])


def half_delivered(box: Box, job: Job, options: Options) -> Ended:
    """A package index that ends the connection in the middle of the file."""
    wheel = next((box.inputs / "index").glob("*.whl"))
    page = f'<a href="/{wheel.name}">{wheel.name}</a>'.encode()
    data = wheel.read_bytes()

    def answer(request: bytes) -> bytes:
        body, sent = (data, len(data) // 2) if wheel.name.encode() in request else (page, len(page))
        kind = b"application/octet-stream" if body is data else b"text/html"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        return head % (kind, len(body)) + body[:sent]

    with _serve(answer) as address:
        _use_index(box, f"{address}/simple")
        return box.run(job.command(box))


def _use_index(box: Box, address: str) -> None:
    box.env = {k: v for k, v in box.env.items() if k not in ("PIP_NO_INDEX", "PIP_FIND_LINKS")}
    box.env |= {"PIP_INDEX_URL": address, "PIP_DEFAULT_TIMEOUT": "2", "PIP_TRUSTED_HOST": "127.0.0.1"}


ANSWERS = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 10\r\n\r\n<h1>no</h1>",
    "garbage": b"\x00\xff\x13 this is no HTTP \r\n\r\n" * 4,
    "closed": b"",
}


def fault_proxy(answer: str) -> contextlib.AbstractContextManager[str]:
    """A proxy's address. ``hangs``: takes the request and says nothing."""
    return _serve((lambda _: ANSWERS[answer]) if answer != "hangs" else None)


@contextlib.contextmanager
def _serve(answer: Callable[[bytes], bytes] | None) -> Iterator[str]:
    """A server on loopback that reads a request, sends these bytes and closes; None: it never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop, held = threading.Event(), []

        def talk(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                connection.settimeout(20)
                request = connection.recv(65536)
                if answer is None:
                    stop.wait(120)
                elif request:
                    connection.sendall(answer(request))

        def accept() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                held.append(threading.Thread(target=talk, args=(connection,), daemon=True))
                held[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            stop.set()
            listening.shutdown(socket.SHUT_RDWR) if hasattr(socket, "SHUT_RDWR") else None
            for thread in held:
                thread.join(timeout=5)


WAYS: Mapping[str, Way] = {
    way.__name__: way
    for way in (
        full_disk,
        read_only,
        full_output,
        killed,
        twice_at_once,
        damaged,
        left_over,
        clock,
        little_memory,
        no_network,
        proxy,
        half_delivered,
    )
}
