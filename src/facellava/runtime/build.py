"""Builds the model that runs from what is shipped (a small difference) and what is pulled (the base language model).

The result is a folder in the cache, keyed by the hashes of everything that went into it: ``decoder.onnx`` and its
weights, ``vision.onnx``, ``embeddings.safetensors``, ``tokenizer.json``, ``head.safetensors`` and ``model.json``. It is
written under a temporary name and renamed when complete, so a half-built model is never used, and one process at a
time builds.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from facellava.errors import DamagedCheckpoint, FileMissing, NoSpace
from facellava.files import is_intact, reading, seal, writing_tensors
from facellava.model.decoder_config import Precision
from facellava.model.expert_report import FILE as HEAD_FILE
from facellava.model.gguf_weights import read_gguf
from facellava.model.quantization import quantize_blocks
from facellava.weights import locked

FORMAT = 6
"""Raised whenever the built files change, so that older ones are rebuilt."""

BASE = "smollm2-135m-instruct"
CROP_MARGIN = 0.6
"""The default's language model, and how far its crops reach beyond the detector's box."""

DEFAULT_MODEL = Path(__file__).parent / "default"
SEAL = "sealed.json"
"""Says of a built folder what its files are; written last."""
_UNFINISHED = (".building-", ".damaged-")
_ADVICE = "get the model's folder again"
Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


class ModelCard(NamedTuple):
    """``model.json`` of a shipped model: how its parts fit together.

    Attributes:
        name: shown in results. base: registered name of the language model. crop_margin: see FaceClip.
        heads: of FRGCA. grid: patches a side. lora_scale: alpha / rank. placeholder: id that stands for visual tokens.
        stop: the text that ends an answer.
    """

    name: str
    base: str
    crop_margin: float
    heads: int
    grid: int
    lora_scale: float
    placeholder: int
    stop: str

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """Raises FileMissing or DamagedCheckpoint."""
        path = folder / "model.json"
        if not path.is_file():
            raise FileMissing(f"{folder} holds no model.json: give the folder of a trained facellava model")
        with reading(path, _ADVICE, DamagedCheckpoint):
            return cls(**json.loads(path.read_bytes()))


def merge_lora(
    base: Mapping[str, NDArray[np.float32]], delta: Mapping[str, NDArray[np.float32]], scale: float
) -> dict[str, NDArray[np.float32]]:
    """W + scale * B A for every pair ``language_model.NAME.lora_{A,B}...weight`` in the delta."""
    merged = dict(base)
    for key, a in delta.items():
        if not key.startswith("language_model.") or ".lora_A." not in key:
            continue
        name = key.removeprefix("language_model.").split(".lora_A.")[0] + ".weight"
        b = delta[key.replace(".lora_A.", ".lora_B.")]
        merged[name] = (base[name] + np.float32(scale) * (b @ a)).astype(np.float32)
    return merged


def read_delta(source: Path) -> dict[str, NDArray[np.float32]]:
    """The trained difference of a folder, in float32.

    Raises:
        DamagedCheckpoint: its file is cut off or no safetensors file.
    """
    path = source / "delta.safetensors"
    with reading(path, _ADVICE, DamagedCheckpoint):
        return {k: v.astype(np.float32) for k, v in load_file(path).items()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def visual_weights(delta: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The delta's visual half under the names that ``vision_onnx`` reads."""
    visual = {k: v for k, v in delta.items() if not k.startswith("language_model")}
    return {
        ("tower." + k.removeprefix("vision_tower.") if k.startswith("vision_tower.") else k): v
        for k, v in visual.items()
    }


def ensure_built(
    source: Path,
    cache: Path,
    resolve: Callable[[str], Path],
    *,
    precision: Precision = "int8",
    progress: Progress | None = None,
) -> Path:
    """The folder with the runnable model, built now if it is not there yet or not what was built.

    Args:
        source: folder with ``delta.safetensors``, ``head.safetensors``, ``model.json``.
        cache: writable folder for built models.
        resolve: registered weight name -> local path.

    Raises:
        NoSpace: the disk is full or the cache is not writable.
    """
    card = ModelCard.read(source)
    digests = [_digest(source / name) for name in ("delta.safetensors", HEAD_FILE, "model.json")]
    key = hashlib.sha256("|".join([str(FORMAT), precision, *digests]).encode()).hexdigest()[:16]
    target = cache / "models" / f"{card.name}-{precision}-{key}"
    if is_intact(target / SEAL):
        return target
    try:
        with locked(target.parent / ".building.lock") as alone:
            if is_intact(target / SEAL):  # another process was faster
                return target
            if alone:
                _clean(target.parent)
            partial = Path(tempfile.mkdtemp(prefix=_UNFINISHED[0], dir=target.parent))
            try:
                _build(source, partial, card, resolve(card.base), precision, progress or (lambda *_: None))
                seal(partial / SEAL, sorted(partial.iterdir()))
                _publish(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise NoSpace(
                f"cannot build the model in {target.parent} ({error.strerror}): "
                "free about 300 MB or set FACELLAVA_CACHE"
            ) from error
        raise
    return target


def _clean(folder: Path) -> None:
    """Remove what killed processes left: hundreds of megabytes each. Whoever holds the lock is the only builder."""
    for prefix in _UNFINISHED:
        for path in folder.glob(f"{prefix}*/"):
            shutil.rmtree(path, ignore_errors=True)


def _publish(partial: Path, target: Path) -> None:
    try:
        os.rename(partial, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Another process finished the same build first: its result is as good as ours. Or what is there is damaged.
        if not is_intact(target / SEAL):
            damaged = Path(tempfile.mkdtemp(prefix=_UNFINISHED[1], dir=target.parent))
            os.rename(target, damaged / target.name)
            os.rename(partial, target)
            shutil.rmtree(damaged, ignore_errors=True)


def _build(source: Path, out: Path, card: ModelCard, gguf: Path, precision: Precision, progress: Progress) -> None:
    from facellava.model.decoder_onnx import build_decoder, save_model  # here: a built model runs without onnx
    from facellava.model.vision_onnx import build_vision

    progress("reading the language model", 0, 1)
    base = read_gguf(gguf)
    delta = read_delta(source)
    weights = merge_lora(base.weights, delta, card.lora_scale)
    decoder = build_decoder(
        base.config,
        weights,
        precision,
        progress=lambda i, n: progress("building the language model", i, n),
    )
    save_model(decoder, out / "decoder.onnx")
    visual = visual_weights(delta)
    vision = build_vision(visual, dim=base.config.hidden_size, heads=card.heads, grid=card.grid)
    (out / "vision.onnx").write_bytes(vision.SerializeToString())
    codes, steps = quantize_blocks(base.weights["model.embed_tokens.weight"])
    with writing_tensors(out / "embeddings.safetensors"):
        save_file({"codes": codes, "scales": steps}, out / "embeddings.safetensors")
    base.tokenizer.save(str(out / "tokenizer.json"))
    (out / HEAD_FILE).write_bytes((source / HEAD_FILE).read_bytes())
    meta: dict[str, Any] = {**card._asdict(), "precision": precision, "decoder": base.config.to_dict()}
    (out / "model.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
