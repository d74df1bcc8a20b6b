"""Runs that are killed and go on, and runs of two processes: the same losses and weights as one undisturbed process."""

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

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from safetensors.torch import load_file  # noqa: E402
from world import losses, write_recipe, write_world  # noqa: E402

COMMAND = [sys.executable, "-m", "facellava", "train"]
LONG = ("batch = 4\nmicro_batch = 2\n", "batch = 4\nmicro_batch = 2\nepochs = 4\n")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    return write_recipe(folder, write_world(folder), LONG)


def start(recipe: Path, out: Path, *more: str, command: list[str] = COMMAND) -> subprocess.Popen[bytes]:
    # a file, not a pipe: nobody reads while the process is watched
    with (out.parent / f"{out.name}.log").open("wb") as log:
        return subprocess.Popen([*command, str(recipe), "--out", str(out), *more], stdout=log, stderr=log)


def finish(recipe: Path, out: Path, *more: str, command: list[str] = COMMAND) -> None:
    process = start(recipe, out, *more, command=command)
    try:
        assert process.wait(timeout=200) == 0, (out.parent / f"{out.name}.log").read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    finish(recipe, out)
    return out


def assert_same(out: Path, whole: Path) -> None:
    for stage in ("pretrain", "finetune"):
        assert losses(out / stage) == losses(whole / stage), f"the curve of {stage}"
    ours, theirs = (load_file(p / "final" / "model.safetensors") for p in (out, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not [p for p in out.rglob(".*") if p.is_dir()], "nothing half done is left"


@pytest.mark.slow
def test_killed_in_steps_and_in_saves(recipe: Path, whole: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments of both stages, and in the middle of writing a checkpoint; then to the end."""
    out, rng = tmp_path / "out", random.Random(0)
    for kill in range(4):
        process = start(recipe, out)
        stage = out / ("pretrain" if kill < 2 else "finetune")
        deadline, in_save = time.monotonic() + 120, kill % 2 == 1
        while process.poll() is None and time.monotonic() < deadline:
            if (in_save and (stage / ".saving").is_dir()) or (not in_save and (stage / "log.jsonl").is_file()):
                break
            time.sleep(0.001)
        if not in_save:
            time.sleep(rng.uniform(0.0, 0.5))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finish(recipe, out)
    assert_same(out, whole)


@pytest.mark.slow
def test_two_processes_are_one(recipe: Path, whole: Path, tmp_path: Path) -> None:
    """The same steps by two processes over gloo: losses within 1e-3, weights within 2e-3 after 40 steps of AdamW."""
    out = tmp_path / "out"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finish(recipe, out, command=[*launcher, "-m", "facellava", "train"])
    for stage in ("pretrain", "finetune"):
        ours, theirs = losses(out / stage), losses(whole / stage)
        assert [step for step, _ in ours] == [step for step, _ in theirs]
        assert [x for _, x in ours] == pytest.approx([x for _, x in theirs], abs=1e-3)
    one, two = (load_file(p / "final" / "model.safetensors") for p in (whole, out))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 2e-3
    by_task = [json.loads(line) for line in (out / "finetune" / "log.jsonl").read_text().splitlines()]
    assert all(line["loss/expression"] == pytest.approx(line["loss"], rel=1e-4) for line in by_task)


def test_accumulation_changes_nothing(recipe: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish(recipe, out, "--set", "stages.pretrain.micro_batch=4", "--set", "stages.finetune.micro_batch=1")
    for stage in ("pretrain", "finetune"):
        assert [x for _, x in losses(out / stage)] == pytest.approx([x for _, x in losses(whole / stage)], abs=1e-3)
