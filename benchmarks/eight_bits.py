"""What 8 bits save and cost: ``python benchmarks/eight_bits.py FACES [--each 5]``.

The default's language model in float and in 8 bits (``model/rotation.py``). Time of one thread, as processor time:
reading a face with its question, and writing a token after it. Answers of ``language.toml`` (so many faces, greedy) are
compared with those in float; ``nats`` is how far the distribution of the next token is from float's (Kullback-Leibler,
mean over float's answers).
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from language import HERE, spread

import facellava
from facellava import tasks, weights
from facellava.instruct.open_faces import read_photos
from facellava.model.decoder_config import Precision
from facellava.model.decoder_onnx import build_decoder, save_model
from facellava.model.gguf_weights import read_gguf
from facellava.runtime.build import DEFAULT_MODEL, ModelCard, merge_lora, read_delta
from facellava.runtime.decoder import OnnxDecoder, log_softmax
from facellava.runtime.engine import Engine, Visual

FORMS: dict[str, Precision] = {"float": "fp32", "8 bits": "int8"}


class Answer(NamedTuple):
    """ids of it, logits before each of them (n, V), seconds until its first token, seconds for each further one."""

    ids: list[int]
    logits: np.ndarray
    first: float
    token: float


def answer(engine: Engine, visual: Visual, question: str, given: list[int] | None, tokens: int) -> Answer:
    """A greedy answer; with ``given``, the logits along those tokens instead."""
    decoder, table, ids, rows = engine._decoder, engine._embed, [], []
    start = time.process_time()
    state = engine._asked(engine.read(visual), question)
    first = time.process_time()
    while len(ids) < tokens and (given is None or len(ids) < len(given)):
        rows.append(state.logits)
        ids.append(int(state.logits.argmax()) if given is None else given[len(ids)])
        if ids[-1] in engine._stop:
            break
        state = decoder.extend(state, table[[ids[-1]]])
    return Answer(ids, np.stack(rows), first - start, (time.process_time() - first) / len(ids))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--each", type=int, default=5, help="faces a question")
    parser.add_argument("--tokens", type=int, default=40)
    args = parser.parse_args()
    model = facellava.load(precision="fp32", threads=1, progress=False)
    engine = model.engine
    photos = [face for face in read_photos(args.faces, tasks.get("attributes").names) if face.split == "test"]
    asked = [q["ask"] for q in tomllib.loads((HERE / "language.toml").read_text(encoding="utf-8"))["question"]]
    clips = [max(model.clips(face.path)[1], key=lambda c: c.quality.size) for face in spread(photos, args.each)]
    prompts = [(engine.see(clip), question) for clip in clips for question in asked]
    card = ModelCard.read(DEFAULT_MODEL)
    base = read_gguf(weights.resolve(card.base))
    merged = merge_lora(base.weights, read_delta(DEFAULT_MODEL), card.lora_scale)
    exact: list[Answer] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, precision in FORMS.items():
            path = Path(folder) / f"{name}.onnx"
            save_model(build_decoder(base.config, merged, precision), path)
            engine._decoder = OnnxDecoder(path, base.config, threads=1)
            own = [answer(engine, visual, question, None, args.tokens) for visual, question in prompts]
            exact = exact or own
            along = [
                answer(engine, visual, question, one.ids, args.tokens)
                for (visual, question), one in zip(prompts, exact, strict=True)
            ]
            equal = sum(a.ids == b.ids for a, b in zip(own, exact, strict=True))
            nats = np.concatenate([_nats(a.logits, b.logits) for a, b in zip(exact, along, strict=True)])
            first, token = (np.median([getattr(a, part) for a in own]) for part in ("first", "token"))
            print(
                f"{name:8s} read {first:.3f} s, token {1000 * token:.1f} ms, equal {equal} of {len(own)}, "
                f"nats {nats.mean():.4f}, file {Path(f'{path}.data').stat().st_size / 1e6:.0f} MB",
                flush=True,
            )


def _nats(exact: np.ndarray, other: np.ndarray) -> np.ndarray:
    p, q = log_softmax(exact), log_softmax(other)
    return (np.exp(p) * (p - q)).sum(-1)


if __name__ == "__main__":
    main()
