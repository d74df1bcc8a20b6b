"""The figures are what their script draws, and what it draws is what the shipped model does."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from docs_blocks import ROOT
from docs_world import FACES

FIGURES = ROOT / "docs" / "figures"


def test_drawing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, FIGURES / "draw.py", tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    drawn = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name: path.read_bytes() for path in FIGURES.glob("*.svg")} and len(drawn) == 4
    assert max(map(len, drawn.values())) < 100_000


def test_figures_load_nothing() -> None:
    for path in FIGURES.glob("*.svg"):
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http" not in text and "href" not in text and "<image" not in text


@pytest.mark.slow
def test_the_shipped_model_sees_what_is_drawn() -> None:
    if not FACES.is_dir():
        pytest.skip("needs the open faces in the development data folder 'shared/'")
    documented = json.loads((FIGURES / "face.json").read_text(encoding="utf-8"))
    seen = runpy.run_path(str(FIGURES / "measure.py"))["measure"](FACES)
    assert seen["source"] == documented["source"] and seen["model"] == documented["model"]
    np.testing.assert_allclose(seen["landmarks"], documented["landmarks"], atol=0.005)
    np.testing.assert_allclose(seen["attention"], documented["attention"], atol=0.02)
    assert seen["report"].splitlines()[0] == documented["report"].splitlines()[0]
