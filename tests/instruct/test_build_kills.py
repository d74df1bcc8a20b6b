"""A build that is killed with SIGKILL at random points and started again, with a real annotator behind HTTP."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from build_world import make_faces, recipe_text
from fault_server import FaultServer
from test_whole_builds import moody, transport_fault

COMMAND = [sys.executable, "-m", "facellava", "data", "build"]


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    arguments = ["--recipe", str(recipe), "--out", str(out), "--workers", "2"]
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(recipe: Path, out: Path) -> None:
    process = start(recipe, out)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def cached(out: Path) -> set[str]:
    """Digests of the requests whose answers are on the disk; the test server puts them into the model's name."""
    found = set()
    for segment in (out / "calls").glob("*.jsonl"):
        for line in segment.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                found.add(json.loads(line)["reply"]["model"].split("@")[1])
    return found


def files(out: Path) -> dict[str, bytes]:
    folder = out / "dataset"
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def kill_and_compare(tmp_path: Path, kills: int, images: int) -> None:
    make_faces(tmp_path / "faces", images=images)
    recipe, out, whole = tmp_path / "recipe.toml", tmp_path / "out", tmp_path / "whole"
    rng = random.Random(kills)
    with FaultServer(moody, transport_fault, retry_after=0.05, hang=2.2) as server:
        recipe.write_text(recipe_text(tmp_path / "faces", server.url))
        begun = time.monotonic()
        finish(recipe, whole)
        length = time.monotonic() - begun
        server.seen.clear()
        for _ in range(kills):
            paid, known = len(server.served), cached(out)
            process = start(recipe, out)
            time.sleep(rng.uniform(0.2, 0.9) * length)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            again = {name for _, name in server.served[paid:]} & known
            assert not again, "an answer that was on the disk was paid for again"
        paid, known = len(server.served), cached(out)
        finish(recipe, out)
        assert not {name for _, name in server.served[paid:]} & known
    assert cached(out) == cached(whole), "a killed build asks what an undisturbed one asks, and nothing else"
    ours, theirs = files(out), files(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.slow
def test_killed_twice(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, kills=2, images=4)


@pytest.mark.slow
def test_killed_ten_times(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, kills=10, images=30)
