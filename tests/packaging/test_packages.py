"""What is released holds everything that the program needs and nothing else, and works where the repository is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import facellava

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "facellava"
DATA = {".toml", ".txt", ".json", ".j2", ".safetensors", ".html", ".js", ".css", ".svg", ".typed"}


def run(*command: str | Path, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A program away from the repository; Python paths and settings of ours do not reach it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FACELLAVA_", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**kept, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def tree() -> set[str]:
    """Every file of the package, as it lies in a wheel."""
    found = {path.relative_to(ROOT / "src").as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    return {name for name in found if "__pycache__" not in name}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("build", "hatchling"):
        pytest.importorskip(name, reason="needs the dev extra")
    out = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, folder=out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


# --- without building ---


def test_every_kind_of_data_is_known() -> None:
    """A new kind of file must be told here, so that nothing comes along by accident."""
    assert {Path(name).suffix for name in tree()} <= {*DATA, ".py"}


def test_the_changelog_knows_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased" in text or f"## {facellava.__version__}" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, tmp_path: Path) -> None:
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # else typer shows the shell that it runs in
    done = run(sys.executable, "-m", "facellava", "--show-completion", shell, folder=tmp_path, **named)
    assert done.returncode == 0, done.stderr
    assert f"_FACELLAVA_COMPLETE=complete_{shell}" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("facellava a", {"analyze", "ask", "ablate"}),
        ("facellava weights v", {"verify"}),
        ("facellava eval --li", {"--limit"}),
    ],
)
def test_completion_of_verbs_and_options(words: str, expected: set[str], tmp_path: Path) -> None:
    asked = {"_FACELLAVA_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = run(sys.executable, "-m", "facellava", folder=tmp_path, **asked)
    assert set(done.stdout.split()) == expected, done.stderr


# --- built ---


@pytest.mark.slow
def test_the_wheel_is_the_package(built: Path) -> None:
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        info = {
            name.partition(".dist-info/")[2]: wheel.read(name).decode()
            for name in wheel.namelist()
            if "dist-info" in name
        }
    assert names == tree()
    assert f"Version: {facellava.__version__}\n" in info["METADATA"]
    assert "License-Expression: Apache-2.0\n" in info["METADATA"]
    assert "facellava = facellava.cli:main" in info["entry_points.txt"]
    assert "licenses/LICENSE" in info


@pytest.mark.slow
def test_the_sdist_is_the_source(built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as sdist:
        names = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    beside = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert names == {f"src/{name}" for name in tree()} | beside


@pytest.mark.slow
def test_the_index_would_take_them(built: Path) -> None:
    pytest.importorskip("twine", reason="needs the dev extra")
    files = [only(built, "*.whl"), only(built, "*.tar.gz")]
    done = run(sys.executable, "-m", "twine", "check", "--strict", *files, folder=built)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(3600)
def test_it_works_where_the_repository_is_not(built: Path, tmp_path: Path) -> None:
    """An empty environment, the wheel with its extra ``demo``, a real face."""
    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    done = run(bin_ / "python", "-m", "pip", "install", "-q", f"{only(built, '*.whl')}[demo]", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    where = run(bin_ / "python", "-c", "import facellava; print(facellava.__file__)", folder=tmp_path)
    assert where.stdout.startswith(str(tmp_path / "venv")), where.stderr
    for command in ([bin_ / "python", "-m", "facellava", "--help"], [bin_ / "facellava", "--help"]):
        assert "analyze" in run(*command, folder=tmp_path).stdout
    assert run(bin_ / "facellava", "--version", folder=tmp_path).stdout == f"facellava {facellava.__version__}\n"
    program = bin_ / "facellava"
    for arguments in (["weights", "pull"], ["weights", "verify"], ["doctor"]):
        done = run(program, *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    save = "from PIL import Image; from skimage.data import astronaut; Image.fromarray(astronaut()).save('face.png')"
    assert run(bin_ / "python", "-c", save, folder=tmp_path).returncode == 0
    done = run(program, "analyze", "face.png", "--task", "expression", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (face,) = json.loads(done.stdout)["faces"]
    assert face["tasks"]["expression"]["label"] == "happiness"
