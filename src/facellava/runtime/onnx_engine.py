"""The default's engine: every part in onnxruntime, on the CPU, without torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from facellava.model.decoder_config import DecoderConfig
from facellava.model.expert_report import ExpertHead
from facellava.model.experts import ExpertEncoder
from facellava.model.frames import frame_indices
from facellava.runtime.decoder import EmbedTable, OnnxDecoder
from facellava.runtime.engine import MODEL_FRAMES, Engine, Visual, whole
from facellava.types import FaceClip


class OnnxEngine(Engine):
    """A built model folder (see ``runtime.build``) ready to run.

    Args:
        folder: the built model.
        resolve: weight name -> path, for the frozen experts.
        threads: intra-operator threads of every session.
    """

    def __init__(self, folder: Path, resolve: Callable[[str], Path], *, threads: int = 1) -> None:
        meta = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.name: str = f"{meta['name']}-{meta['precision']}"
        self.margin: float = meta["crop_margin"]
        self.untrained, self.thresholds, self.temperature = {}, {}, {}
        self.grid: int = meta["grid"]
        self._placeholder: int = meta["placeholder"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        with ThreadPoolExecutor(1) as beside:  # opening is most of a cold start, and one half of it waits for nothing
            decoder = beside.submit(
                OnnxDecoder, folder / "decoder.onnx", DecoderConfig(**meta["decoder"]), threads=threads
            )
            self._encoder = ExpertEncoder(resolve, threads=threads)
            vision = str(folder / "vision.onnx")
            self._vision = ort.InferenceSession(vision, options, providers=["CPUExecutionProvider"])
            self._take_head(ExpertHead.load(folder))
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._decoder = decoder.result()
        stop = self._tokenizer.token_to_id(meta["stop"])
        assert stop is not None, "the tokenizer lacks the model's stop token"
        self._stop = frozenset({stop})
        self._embed = EmbedTable.mapped(folder / "embeddings.safetensors")

    def tokenize(self, text: str) -> list[int]:
        """See ``Engine.tokenize``."""
        return self._tokenizer.encode(whole(text), add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """See ``Engine.decode``."""
        return self._tokenizer.decode(ids)

    def tokenizer_json(self) -> str:
        """See ``Engine.tokenizer_json``."""
        return self._tokenizer.to_str()

    def see(self, clip: FaceClip) -> Visual:
        """Experts, projector, FRLP and FRGCA over up to 8 frames of a clip."""
        return self.fuse(*self._features(clip))

    def judge(self, clip: FaceClip) -> NDArray[np.float32]:
        """See ``Engine.judge``; the experts and the head alone."""
        assert self._head is not None
        return self._head(*self._features(clip))

    def _features(self, clip: FaceClip) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Maps, values and landmarks of up to 8 frames."""
        chosen = frame_indices(len(clip.frames), min(MODEL_FRAMES, len(clip.frames)))
        maps, values = self._encoder.encode(clip.frames[chosen], clip.landmarks[chosen], clip.blendshapes[chosen])
        return maps, values, clip.landmarks[chosen]

    def fuse(self, maps: NDArray[np.float32], values: NDArray[np.float32], landmarks: NDArray[np.float32]) -> Visual:
        """The vision graph and the head alone: maps (T, N, C), values (T, E), landmarks (T, 68, 2)."""
        assert self._head is not None
        feed = {"maps": maps, "landmarks": landmarks}
        tokens, attention = (np.asarray(v) for v in self._vision.run(["tokens", "attention"], feed))
        probabilities, found = self._head.read(maps, values, landmarks)
        return Visual(tokens, attention, probabilities, found.report())
