"""Speed of the shipped default beside transformers on the same weights, in one run.

Both sides take turns (A B A B ...), medians are reported with the ratio of each pair's median, threads are stated, and
agreement stands beside speed. Nothing here is asserted: the machine may be busy.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from common import Row, medians, row

from facellava import analyzer, weights
from facellava.runtime.torch_model import load_torch

QUESTION = "Describe this face."
NEW_TOKENS = 32


def generation(photo: np.ndarray, threads: int, rounds: int) -> list[Row]:
    """Time to first token and decoding, 8-bit ONNX against transformers' generate in float32."""
    import torch

    torch.set_num_threads(threads)
    ours = analyzer.load(threads=threads, progress=False)
    model, processor = load_torch(weights.resolve)
    _, (clip, *_) = ours.clips(photo)
    batch = processor(clip, [{"role": "user", "content": QUESTION}])
    engine = ours.engine
    visual = engine.see(clip)

    def first() -> None:
        next(iter(engine.ask(engine.read(visual), QUESTION)))

    def peer(new: int) -> Callable[[], object]:
        def run() -> object:
            with torch.no_grad():
                return model.generate(**batch, max_new_tokens=new, min_new_tokens=new, do_sample=False)

        return run

    seen = engine.read(visual)

    def many() -> None:
        list(engine.ask(seen, QUESTION, max_new_tokens=NEW_TOKENS, ignore_stop=True))

    text = "".join(engine.ask(seen, QUESTION, max_new_tokens=24))
    with torch.no_grad():
        reference = model.generate(**batch, max_new_tokens=24, do_sample=False)
    same = text == processor.decode(reference[0, batch["input_ids"].shape[1] :])
    note = f"same 24 greedy tokens as float32: {'yes' if same else 'no'}"
    other = "transformers generate, fp32"
    return [
        row("time to first token, int8", other, medians(first, peer(1), rounds), 2, note, threads),
        row(f"{NEW_TOKENS} tokens, int8", other, medians(many, peer(NEW_TOKENS), rounds), 3.5, note, threads),
    ]


def start_up(rounds: int) -> Row:
    """``facellava --help`` against importing transformers' LLaVA classes."""

    def python(*args: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *args], check=True, capture_output=True)

    peer = python("-c", "from transformers import LlavaForConditionalGeneration")
    numbers = medians(python("-m", "facellava", "--help"), peer, rounds)
    return row("facellava --help", "import of transformers' LLaVA", numbers, 18, "-", 1)


def photo_times(photo: np.ndarray, threads: int, rounds: int) -> list[Row]:
    """A photograph to typed results and texts, warm; no peer."""
    model = analyzer.load(threads=threads, progress=False)
    result = []
    for name, explain in (("photo, five tasks with text, warm", True), ("photo, five tasks, labels only, warm", False)):
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            model.analyze(photo, explain=explain)
            times.append(time.perf_counter() - start)
        result.append({"name": name, "peer": "-", "ours_s": round(float(np.median(times)), 3), "threads": threads})
    return result


def rows(rounds: int, threads: int = 1) -> list[Row]:
    """Generation, start-up and a whole photograph."""
    from skimage.data import astronaut

    return [
        *generation(astronaut(), threads, rounds),
        start_up(rounds),
        *photo_times(astronaut(), threads, rounds),
    ]
