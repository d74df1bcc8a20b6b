"""``facellava convert`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="needs the torch extra")

SIZES = ("vision.width=16", "vision.mlp=24", "vision.layers=3", "vision.heads=2", "vision.patch=4",
         "vision.image_size=8")  # fmt: skip
OPTIONS = tuple(part for size in SIZES for part in ("--set", size))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tiny original Video-LLaVA with a tokenizer."""
    import layouts_world as world

    return world.checkpoint(tmp_path / "video-llava", "video-llava", tokenizer=True)


def test_there_and_back(run, source: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    code, out, errors = run("convert", source, tmp_path / "ours", *OPTIONS)
    assert (code, errors) == (0, "")
    assert "layout video-llava" in out and "initialised: frlp, frgca" in out
    assert "dropped (2): computed, not learned" in out and "written as ours" in out
    code, out, errors = run("convert", tmp_path / "ours", tmp_path / "back", "--to", "video-llava", "--json")
    assert (code, errors) == (0, "")
    report = json.loads(out)
    assert report["layout"] == "ours" and report["to"] == "video-llava" and not report["filled"]
    first, second = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "back"))
    assert first.keys() == second.keys() and all(first[key].equal(second[key]) for key in first)


def test_a_profile_of_the_release(run, tmp_path: Path) -> None:
    import layouts_world as world

    source = world.checkpoint(tmp_path / "release", "official", tokenizer=True)
    code, out, errors = run("convert", source, tmp_path / "ours", "--profile", "release", *OPTIONS)
    assert (code, errors) == (0, "") and "profile: release" in out
    settings = json.loads((tmp_path / "ours" / "processor_config.json").read_text())
    assert settings["style"]["before_all"].startswith("A chat between a curious human")
    assert settings["config"]["crop"] == "corner" and settings["config"]["fusion"]["landmarks"] == "none"
    code, out, errors = run("convert", source, "--check", "--profile", "release-landmarks", "--json", *OPTIONS)
    assert code == 0 and json.loads(out)["profile"] == "release-landmarks"
    code, out, errors = run("convert", source, tmp_path / "x", "--profile", "mine", *OPTIONS)
    assert (code, out) == (2, "") and "there is no profile 'mine'; known: release, release-landmarks" in errors


def test_warnings_are_on_standard_error(run, tmp_path: Path) -> None:
    import layouts_world as world

    code, out, errors = run("convert", world.checkpoint(tmp_path / "hub", "video-llava-hub"), tmp_path / "ours")
    assert code == 0 and "attention across time" in out
    assert "facellava: warning: the video tower has no attention across time" in errors


def test_check_reads_and_writes_nothing(run, source: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = run("convert", source, "--check", "--json", *OPTIONS)
    assert code == 0 and json.loads(out)["initialised"].keys() == {"frlp", "frgca"}
    code, out, errors = run("convert", source, "--check", "--json")  # LanguageBind's sizes: nothing fits
    report = json.loads(out)
    assert code == 25 and report["missing"] and report["wrong"]
    assert errors.startswith("facellava: error: ") and errors.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_damage_is_one_line(run, source: Path, tmp_path: Path) -> None:
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    code, out, errors = run("convert", source, tmp_path / "ours", *OPTIONS)
    assert (code, out) == (25, "") and errors.count("\n") == 1
    assert errors.startswith(f"facellava: error: {path} is cut off or no safetensors file")
    assert not (tmp_path / "ours").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_a_full_disk(source: Path, tmp_path: Path) -> None:
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "from facellava import cli; sys.exit(cli.run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", limited, "convert", str(source), str(tmp_path / "ours"), *OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 22 and "File too large" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "x"], 10, "nowhere: no such file or folder"),
        (["nowhere"], 2, "give DST, the folder to write, or --check alone"),
        (["nowhere", "x", "--check"], 2, "give DST, the folder to write, or --check alone"),
        (["nowhere", "x", "--to", "elsewhere"], 2, "cannot write layout 'elsewhere'; choose one of ours"),
        (["nowhere", "x", "--style", "mine"], 2, "choose vicuna or chatml"),
        (["nowhere", "x", "--set", "vision"], 2, "write it as KEY=VALUE"),
    ],
)
def test_mistakes(run, tmp_path: Path, monkeypatch, arguments: list[str], code: int, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, errors = run("convert", *arguments)
    assert (found, out) == (code, "") and message in errors and errors.count("\n") == 1
    assert not list(tmp_path.iterdir())
