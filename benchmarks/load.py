"""Many clients at once against ``facellava serve``, for a while: does it answer each once, and keep its memory?

    python benchmarks/load.py --clients 200 --seconds 120 --model tiny        # or default

The server is a process of its own on a free port of this machine, and nothing leaves it. Clients ask, score and
analyse, half of the questions streamed, about a few pictures; who is refused comes again when told to. ``tiny`` is the
language model of the tests behind the real front end. Exits with 1 when something that must not happen did.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests" / "server" / "serve_tiny.py"
PICTURES = 4
LONGEST_PAUSE = 5.0
FLAT = 0.10


@dataclass(slots=True)
class Seen:
    """What the clients met."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)


@contextmanager
def server(model: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Address and process of a server that is ready; it is ended by SIGTERM."""
    start = [str(TINY), str(folder), "0"] if model == "tiny" else ["-m", "facellava", "serve", "--threads", "2"]
    log = folder / "log"
    with log.open("wb") as file:
        command = [sys.executable, *start, "--port", "0", "--offline"]
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=folder)
    try:
        while not (found := re.search(r"serving \S+ at (\S+)", log.read_text(encoding="utf-8"))):
            if process.poll() is not None:
                raise SystemExit(log.read_text(encoding="utf-8"))
            time.sleep(0.1)
        yield found[1], process.pid
        process.terminate()
        assert process.wait(60) == 0, "the server did not end well"
    finally:
        process.kill()
        process.wait()


def pictures() -> list[str]:
    """Data URLs of one portrait, a little darker each time."""
    from skimage.data import astronaut

    urls = []
    for number in range(PICTURES):
        pixels = np.asarray(Image.fromarray(astronaut()).resize((256, 256))) - np.minimum(number, 3)
        file = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG")
        urls.append("data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode())
    return urls


def request(number: int, urls: list[str]) -> tuple[str, dict[str, Any]]:
    """The path and body of a client's n-th request."""
    picture = urls[number % len(urls)]
    if number % 10 == 8:
        return "/v1/score", {"media": picture, "question": "Is this person smiling?", "options": ["Yes", "No"]}
    if number % 10 == 9:
        return "/v1/analyze", {"media": picture, "explain": False}
    content = [
        {"type": "image_url", "image_url": {"url": picture}},
        {"type": "text", "text": f"Question {number % 7}?"},
    ]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 16, "stream": bool(number % 2)}
    return "/v1/chat/completions", {"model": "facellava", **body}


def whole(path: str, body: dict[str, Any], response: httpx.Response, seen: Seen) -> bool:
    """Whether an answer is one, and all of it."""
    if not body.get("stream"):
        data = response.json()
        seen.ids += [data["id"]] if "id" in data else []
        return len(data.get("choices", data.get("faces", data.get("options", [])))) >= 1
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    chunks = [json.loads(line) for line in events[:-1]]
    seen.ids.append(chunks[0]["id"])
    ends = [chunk for chunk in chunks if chunk.get("choices") and chunk["choices"][0]["finish_reason"]]
    return events.count("[DONE]") == 1 and events[-1] == "[DONE]" and len(ends) == 1


async def client(number: int, http: httpx.AsyncClient, urls: list[str], end: float, seen: Seen) -> None:
    """Ask until the time is over, one request after another."""
    turn = number
    while time.monotonic() < end:
        path, body = request(turn, urls)
        start = time.monotonic()
        try:
            response = await http.post(path, json=body)
        except httpx.HTTPError as error:
            seen.wrong[f"{type(error).__name__} after {time.monotonic() - start:.0f} s"] += 1
            continue
        seen.statuses[response.status_code] += 1
        if response.status_code == 200:
            seen.seconds.append(time.monotonic() - start)
            if not whole(path, body, response, seen):
                seen.wrong[f"no whole answer of {path}"] += 1
            turn += 1
        elif response.status_code == 503 and "retry-after" in response.headers:
            await asyncio.sleep(min(LONGEST_PAUSE, float(response.headers["retry-after"])))
        else:
            seen.wrong[f"status {response.status_code} of {path}"] += 1
            await asyncio.sleep(1.0)


@asynccontextmanager
async def watching(pid: int) -> AsyncIterator[list[float]]:
    """Resident memory of a process in MiB, once a second."""
    sizes: list[float] = []

    async def look() -> None:
        while True:
            pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
            sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
            await asyncio.sleep(1.0)

    task = asyncio.create_task(look())
    try:
        yield sizes
    finally:
        task.cancel()


async def load(url: str, pid: int, clients: int, seconds: float) -> dict[str, Any]:
    """All clients for so many seconds; what they met, what the server counted, what it held."""
    urls, seen = pictures(), Seen()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits, trust_env=False) as http:
        for turn in range(40):  # every picture and every kind of request once, so that caches are filled
            path, body = request(turn, urls)
            (await http.post(path, json=body)).raise_for_status()
        before = await counted(http)
        async with watching(pid) as sizes:
            end = time.monotonic() + seconds
            await asyncio.gather(*(client(n, http, urls, end, seen) for n in range(clients)))
        after = await counted(http)
    return report(seen, after - before, sizes)


async def counted(http: httpx.AsyncClient) -> Counter[int]:
    """Answers by status that the server counts, of the routes of the model."""
    text = (await http.get("/metrics")).text
    found = re.findall(
        r'^facellava_requests_total\{route="/v1/(?:chat|ana|sco)[^"]*",status="(\d+)"\} (\S+)', text, re.M
    )
    counts: Counter[int] = Counter()
    for status, number in found:
        counts[int(status)] += int(float(number))
    return counts


def report(seen: Seen, counts: Counter[int], sizes: list[float]) -> dict[str, Any]:
    """The numbers, and what must not be: anything but 200 and 503, an answer twice or in part, growing memory."""
    tenth = max(1, len(sizes) // 10)
    early, late = statistics.median(sizes[tenth : 3 * tenth]), statistics.median(sizes[-2 * tenth :])
    wrong = Counter(seen.wrong)
    wrong["answers twice"] = len(seen.ids) - len(set(seen.ids))
    wrong["not counted alike"] = sum((counts - seen.statuses).values()) + sum((seen.statuses - counts).values())
    wrong["memory grew"] = int(late > (1 + FLAT) * early)
    times = sorted(seen.seconds) or [float("nan")]
    return {
        "answered": seen.statuses[200],
        "refused_503": seen.statuses[503],
        "median_s": round(statistics.median(times), 2),
        "p95_s": round(times[int(0.95 * (len(times) - 1))], 2),
        "memory_mib": {"early": round(early), "late": round(late), "peak": round(max(sizes))},
        "growth": round(late / early - 1, 4),
        "wrong": {what: number for what, number in wrong.items() if number},
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--model", choices=["tiny", "default"], default="tiny")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(given.model, Path(folder)) as (url, pid):
        found = asyncio.run(load(url, pid, given.clients, given.seconds))
    print(json.dumps({**vars(given), **found}))
    sys.exit(1 if found["wrong"] else 0)


if __name__ == "__main__":
    main()
