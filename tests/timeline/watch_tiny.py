"""``timeline.record`` with the tiny model in its own process; prints its peak in KiB: watch_tiny.py VIDEO OUT."""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "runtime"))

import tiny

from facellava import weights
from facellava.analyzer import Analyzer
from facellava.runtime.build import ensure_built
from facellava.runtime.onnx_engine import OnnxEngine
from facellava.timeline import Asked, record


def main(folder: Path, video: str, out: str) -> None:
    gguf = tiny.write_gguf(folder / "tiny.gguf", tiny.language_weights())
    built = ensure_built(tiny.write_model(folder / "tiny"), folder, lambda _: gguf)
    record(Analyzer(OnnxEngine(built, weights.resolve), weights.resolve), video, out, Asked.of(seconds=1, frames=1))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made), sys.argv[1], sys.argv[2])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
