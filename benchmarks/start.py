"""How long somebody waits: for the command line, for a photograph in a fresh process, and for one in a warm process.

A fresh process finds its files in the system's page cache, as the second run of the day does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import Row, alone, medians, row, spent
from PIL import Image

from facellava import analyzer

LABELS_AND_TEXT = ("expression",)
"""Of a warm photograph: five tasks' labels are read off the same face, and one text is written."""


def python(*args: str) -> Callable[[], object]:
    """A fresh interpreter."""
    return lambda: subprocess.run([sys.executable, *args], check=True, capture_output=True)


def command_line(rounds: int) -> list[Row]:
    """``facellava --help`` against importing transformers' LLaVA classes."""
    peer = python("-c", "from transformers import LlavaForConditionalGeneration")
    turns = medians(python("-m", "facellava", "--help"), peer, rounds)
    return [
        row("facellava --help", "import of transformers' LLaVA", turns, 18, "", 1),
        alone("facellava --help", turns.ours, 1, at_most=0.3),
    ]


def cold(photo: Path, rounds: int) -> list[Row]:
    """Fresh processes, from the command to the printed answer."""
    commands = {
        "ask": (("ask", str(photo), "Describe this face."), None),
        "analyze --brief, five tasks": (("analyze", str(photo), "--brief", "--json"), None),
        "analyze, five tasks with text": (("analyze", str(photo), "--json"), 3.0),
    }
    return [
        alone(f"a photo, fresh process: {name}", _times(python("-m", "facellava", *args), rounds), 1, at_most=goal)
        for name, (args, goal) in commands.items()
    ]


def warm(photo: Path, rounds: int, threads: int = 1) -> list[Row]:
    """The same in a process that has answered before."""
    model = analyzer.load(threads=threads, progress=False)
    ways: dict[str, tuple[Callable[[], object], float | None]] = {
        "five tasks, labels": (lambda: model.analyze(photo, explain=False), None),
        "labels and text of the expression": (lambda: model.analyze(photo, tasks=LABELS_AND_TEXT), 1.2),
        "five tasks with text": (lambda: model.analyze(photo), None),
    }
    for run, _ in ways.values():
        run()
    return [
        alone(f"a photo, warm: {name}", _times(run, rounds), threads, at_most=goal)
        for name, (run, goal) in ways.items()
    ]


def _times(run: Callable[[], object], rounds: int) -> list:
    return [spent(run) for _ in range(rounds)]


def rows(rounds: int) -> list[Row]:
    """The command line, and scikit-image's astronaut."""
    from skimage.data import astronaut

    with tempfile.TemporaryDirectory() as name:
        photo = Path(name) / "photo.png"
        Image.fromarray(astronaut()).save(photo)
        return [*command_line(rounds), *cold(photo, rounds), *warm(photo, rounds)]
