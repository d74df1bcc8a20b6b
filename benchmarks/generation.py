"""The default's language model beside transformers' ``generate``: same weights, same visual tokens, same prompt.

The peer is ``LlamaForCausalLM`` in float32 with its key-value cache and its default attention, greedy, without a stop
token. Alone, it is handed the embeddings of the whole prompt; from a picture, both sides share front end and face
experts, for which there is no peer. Tokens are stamped as they come out, so that one run gives both times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from common import Row, Spent, Turns, alone, row
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from facellava import analyzer, weights
from facellava.runtime.engine import Engine, Tally
from facellava.runtime.torch_model import load_torch
from facellava.types import FaceClip

QUESTION = "Describe this face."
NEW_TOKENS = 60
PEER = "transformers generate, fp32"


class Written(NamedTuple):
    """Until the first token, and for those after it."""

    first: Spent
    rest: Spent


def now() -> Spent:
    """The clock and the processor time of this process."""
    return Spent(time.perf_counter(), time.process_time())


def between(start: Spent, end: Spent) -> Spent:
    """What lies between two moments."""
    return Spent(end.clock - start.clock, end.cpu - start.cpu)


def write(tokens: Iterator[object], start: Spent) -> Written:
    """Take every token, from a clock that was started before."""
    next(tokens)
    first = now()
    for _ in tokens:
        pass
    return Written(between(start, first), between(first, now()))


class Stamps(BaseStreamer):
    """Notes when each token comes out of ``generate``."""

    def __init__(self) -> None:
        self.times: list[Spent] = []
        self.ids: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        """One token; the prompt comes as something else than one id."""
        if value.numel() == 1:
            self.times.append(now())
            self.ids.append(int(value))

    def end(self) -> None:
        """Nothing is left to flush."""


class Peer:
    """The shipped default in transformers."""

    def __init__(self, clip: FaceClip) -> None:
        self.model, self.processor = load_torch(weights.resolve)
        self.clip = clip
        batch = self.batch()
        self.prompt: int = batch["input_ids"].shape[1]
        seen = {name: value for name, value in batch.items() if name in ("vision_features", "landmarks")}
        with torch.no_grad():
            self.embeds = self.model.embed(batch["input_ids"], self.model.encode_visual(**seen).tokens)

    def batch(self) -> dict[str, Any]:
        """Tensors of the conversation."""
        return self.processor(self.clip, [{"role": "user", "content": QUESTION}])

    def alone(self) -> tuple[Written, list[int]]:
        """The language model from embeddings."""
        return self._write(lambda how: self.model.language_model.generate(inputs_embeds=self.embeds, **how))

    def whole(self, find: Callable[[], FaceClip]) -> Written:
        """From a picture."""

        def run(how: dict[str, Any]) -> object:
            self.clip = find()
            return self.model.generate(**self.batch(), **how)

        return self._write(run)[0]

    def _write(self, generate: Callable[[dict[str, Any]], object]) -> tuple[Written, list[int]]:
        stamps, start = Stamps(), now()
        config = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0)
        with torch.no_grad():
            generate({"generation_config": config, "streamer": stamps})
        return Written(between(start, stamps.times[0]), between(stamps.times[0], stamps.times[-1])), stamps.ids


def ours_alone(engine: Engine, visual: Any) -> Written:
    """Our language model from visual tokens."""
    start = now()
    return write(engine.ask(engine.read(visual), QUESTION, max_new_tokens=NEW_TOKENS, ignore_stop=True), start)


def rows(rounds: int, threads: int = 1) -> list[Row]:
    """First token and those after it, in 8 bits and in float; from a picture to the first token and to the sixtieth."""
    from skimage.data import astronaut

    torch.set_num_threads(threads)
    photo = astronaut()
    models = {p: analyzer.load(threads=threads, precision=p, progress=False) for p in ("int8", "fp32")}
    (clip, *_) = models["int8"].clips(photo)[1]
    peer = Peer(clip)
    visual = models["int8"].engine.see(clip)
    note = _agreement(models["int8"].engine, models["fp32"].engine, visual, peer)
    found: dict[str, list[Written]] = {name: [] for name in (*models, "peer", "picture", "peer picture")}
    for _ in range(rounds):
        for name, model in models.items():
            found[name].append(ours_alone(model.engine, visual))
            if name == "int8":
                found["peer"].append(peer.alone()[0])
        found["picture"].append(_from_picture(models["int8"], photo))
        found["peer picture"].append(peer.whole(lambda: models["int8"].clips(photo)[1][0]))
    return [
        *_compared("int8", found["int8"], found["peer"], (2, 3.5), note, threads),
        *_compared("fp32 ONNX", found["fp32"], found["peer"], (None, None), "", threads),
        _row("picture to first token, int8", found["picture"], found["peer picture"], 0, None, "", threads),
        alone("picture to first token, int8", [w.first for w in found["picture"]], threads, at_most=0.4),
        alone(
            f"answer of {NEW_TOKENS} tokens after the first, int8",
            [w.rest for w in found["int8"]],
            threads,
            at_most=1.5,
        ),
    ]


def _from_picture(model: analyzer.Analyzer, photo: np.ndarray) -> Written:
    start = now()
    clip = model.clips(photo)[1][0]
    return write(
        model.engine.ask(model.engine.look(clip), QUESTION, max_new_tokens=NEW_TOKENS, ignore_stop=True), start
    )


def _agreement(int8: Engine, fp32: Engine, visual: Any, peer: Peer) -> str:
    """That both sides read the same prompt, and how much of the greedy answer is the same."""
    tally = Tally()
    texts = []
    for engine in (int8, fp32):
        asked = engine.ask(engine.read(visual), QUESTION, max_new_tokens=NEW_TOKENS, ignore_stop=True, tally=tally)
        texts.append("".join(asked))
    assert tally.prompt == peer.prompt == peer.embeds.shape[1], f"{tally.prompt} tokens beside {peer.prompt}"
    reference = fp32.decode(peer.alone()[1])
    same = ["yes" if text == reference else "no" for text in texts]
    return f"{peer.prompt} tokens read; same {NEW_TOKENS} greedy tokens as the peer: {same[0]} (fp32 ONNX: {same[1]})"


def _compared(
    name: str, ours: list[Written], peer: list[Written], goals: tuple[Any, Any], note: str, threads: int
) -> list[Row]:
    return [
        _row(f"first token from visual tokens, {name}", ours, peer, 0, goals[0], note, threads),
        _row(f"{NEW_TOKENS - 1} tokens after the first, {name}", ours, peer, 1, goals[1], note, threads),
    ]


def _row(
    name: str, ours: list[Written], peer: list[Written], part: int, goal: float | None, note: str, threads: int
) -> Row:
    return row(name, PEER, Turns([w[part] for w in ours], [w[part] for w in peer]), goal, note, threads)
