"""The command line in this process, with a stand-in analyzer and a cache of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_world import StandIn
from PIL import Image

import facellava.analyzer
from facellava import cli
from facellava.notice import TEXT


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FACELLAVA_WEIGHTS", "FACELLAVA_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FACELLAVA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def analyzer(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """What ``facellava.analyzer.load`` gives in this test."""
    made = StandIn()
    monkeypatch.setattr(facellava.analyzer, "load", lambda *_, **__: made)
    return made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """(exit code, standard output, standard error without the notice of the first run)."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run([str(argument) for argument in arguments])
        out, errors = capsys.readouterr()
        return code, out, errors.replace(TEXT + "\n", "")

    return call


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A readable picture of 400 x 300 with something in it."""
    path = tmp_path / "face.png"
    rows = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(rows).save(path)
    return path
