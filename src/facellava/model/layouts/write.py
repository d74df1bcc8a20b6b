"""Writing a model shard by shard, in our layout or back in another; a folder appears whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from facellava.errors import NoSpace, UsageError
from facellava.model.config import ClipVisionConfig, FaceLlavaConfig

from .layout import Layout, Passive
from .plan import ROWS, WORDS, Plan, on_meta
from .source import Entry, Source, open_source, read_json

__all__ = ["KEPT", "SHARD", "kept_folder", "their_tensors", "whole_folder", "write_ours", "write_shards"]

SHARD = 4_000_000_000
"""Bytes of a shard at most, unless a single tensor has more."""
WEIGHTS = "model.safetensors"
KEPT = "source"
"""Folder beside our weights: what the checkpoint had that our model does not use, so that it can be written back."""
UNUSED, FACTS = "unused.safetensors", "layout.json"
_MULTIPLE, _ADDED = 64, 3
"""The hub's Video-LLaVA adds three words and pads its vocabulary to a multiple."""


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that takes its name when the block ends without an error.

    Raises:
        UsageError: ``target`` is there and not an empty folder.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already: name another folder, or delete it")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o777 & ~umask)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_shards(
    entries: Mapping[str, Entry], folder: Path, sources: Sequence[Source], limit: int = SHARD
) -> list[str]:
    """Write tensors as ``model.safetensors``, or as shards with an index; one shard is in memory at a time.

    Returns:
        The names of the files.
    """
    shards: list[dict[str, Entry]] = [{}]
    size = 0
    for key, entry in entries.items():
        if shards[-1] and size + entry.size > limit:
            shards.append({})
            size = 0
        shards[-1][key] = entry
        size += entry.size
    names = [WEIGHTS]
    if len(shards) > 1:
        stem = WEIGHTS.removesuffix(".safetensors")
        names = [f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        _write_shard(shard, folder / name)
        for source in sources:
            source.close()  # or the whole source would stay mapped into memory
    if len(shards) > 1:
        places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        total = sum(entry.size for entry in entries.values())
        _write_json(folder / f"{WEIGHTS}.index.json", {"metadata": {"total_size": total}, "weight_map": places})
    return names


def _write_shard(shard: Mapping[str, Entry], path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for key, entry in shard.items():
        value = entry.read().contiguous()
        # rows of a larger tensor share its memory, which the writer refuses
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        tensors[key] = value if whole else value.clone()
    try:
        save_file(tensors, path, {"format": "pt"})
    except SafetensorError as error:
        raise NoSpace(f"cannot write {path.name} of {path.parent.parent}: {error}") from error


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_ours(plan: Plan, folder: Path, limit: int = SHARD) -> list[str]:
    """Write weights and config.json of our layout, and keep what the layout of the source needs to be written again."""
    config = plan.config
    config.architectures = ["FaceLlavaForConditionalGeneration"]
    config.dtype = plan.dtype
    config.save_pretrained(folder)
    before = kept_folder(plan.source.folder)
    if plan.layout.name == "ours" and before is not None:
        shutil.copytree(before, folder / KEPT)
    elif plan.layout.writable and plan.layout.name != "ours":
        kept = folder / KEPT
        kept.mkdir()
        if plan.left:
            _write_shard(plan.left, kept / UNUSED)
        _write_json(kept / FACTS, {"layout": plan.layout.name})
        _write_json(kept / "config.json", plan.source.config)
    return write_shards(plan.entries, folder, plan.sources, limit)


def kept_folder(folder: Path, layout: str = "") -> Path | None:
    """Where a folder of ours keeps what another layout needs; None without it, or where it is of another layout."""
    facts = read_json(folder / KEPT / FACTS)
    if not facts or (layout and facts.get("layout") != layout):
        return None
    return folder / KEPT


def their_tensors(plan: Plan, target: Layout) -> dict[str, Entry]:
    """A model's tensors under the names of another layout, complete; the report says what had to be filled or left out.

    Raises:
        UsageError: the layout has no place for this model.
    """
    kept = _kept(plan, target)
    _check_expressible(plan.config, target, kept)
    out, report = _renamed(plan, target)
    for key in [key for key in kept if not key.endswith(ROWS)]:
        out.setdefault(key, kept[key])
    filled = {key: entry for key, entry in _fillings(plan, target).items() if key not in out}
    plan.report.left_out = report
    plan.report.filled = sorted(filled)
    out |= filled
    if target.padded:
        _pad_vocabulary(plan, target, out, kept)
    return dict(sorted(out.items(), key=lambda item: (item[1].file, item[0])))


def _check_expressible(config: FaceLlavaConfig, target: Layout, kept: Mapping[str, Entry]) -> None:
    if not target.writable:
        raise UsageError(f"{target.title} cannot be written")
    if not isinstance(config.vision, ClipVisionConfig) or config.vision.towers != "both":
        raise UsageError(f"{target.title} has an image tower and a video tower; this model has not")
    if config.text_config.model_type != "llama":
        raise UsageError(f"{target.title} has a LLaMA; this model has {config.text_config.model_type}")
    kind = target.fusion.get("kind")
    if config.fusion.landmarks == "none" and any(_is_of_landmarks(key, target) for key in kept):
        return  # runs without them, but they lie beside it
    if kind and (config.fusion.kind != kind or config.fusion.projector != "frlp"):
        raise UsageError(
            f"{target.title} computes fusion kind '{kind}' after 'frlp'; this model has '{config.fusion.kind}' after "
            f"'{config.fusion.projector}', which it has no place for"
        )


def _is_of_landmarks(key: str, target: Layout) -> bool:
    return key in target.joined or (target.ours(key) or "").startswith("frgca.")


def _kept(plan: Plan, target: Layout) -> Mapping[str, Entry]:
    """Tensors that our model does not use but the target does, as they were in the source."""
    if plan.layout.name == target.name:
        return plan.left
    folder = kept_folder(plan.source.folder, target.name) if plan.layout.name == "ours" else None
    if folder is None or not (folder / UNUSED).is_file():
        return {}
    return open_source(folder / UNUSED).entries


def _renamed(plan: Plan, target: Layout) -> tuple[dict[str, Entry], list[str]]:
    out: dict[str, Entry] = {}
    left_out: list[str] = []
    hub = target.padded  # its video tower has no attention across time
    for key, entry in plan.entries.items():
        name = None if hub and ".time_" in key else target.theirs(key)
        if name is None:
            left_out.append(key)
        elif name in target.joined:
            out[name] = Entry.stacked([plan.entries[part] for part in target.joined[name]])
        else:
            out[name] = entry
    return out, left_out


def _fillings(plan: Plan, target: Layout) -> dict[str, Entry]:
    """What the layout has and our model has not: layers that pass on what they get, norms without effect."""
    config, dtype = plan.config, plan.dtype
    whole = FaceLlavaConfig.from_dict(config.to_dict())
    whole.vision = type(config.vision)(**{**vars(config.vision), "select_layer": -1})
    filled: dict[str, Entry] = {}
    for key, value in on_meta(whole).vision_tower.state_dict().items():
        name = target.theirs(f"vision_tower.{key}")
        if name is not None and not (target.padded and ".time_" in key):
            one = re.search(r"_norm\.weight$", key) is not None
            filled[name] = Entry.filled(tuple(value.shape), dtype, float(one))
    for name, passive in target.passive.items():
        if passive.width is not None:
            count = config.text_config.num_hidden_layers if "#" in name else 1
            filled |= {name.replace("#", str(i)): _passive(passive, config, dtype) for i in range(count)}
    return filled


def _passive(passive: Passive, config: FaceLlavaConfig, dtype: torch.dtype) -> Entry:
    text = config.text_config
    if passive.width != "rotary":
        width = text.hidden_size if passive.width == "text" else config.vision.width
        return Entry.filled((width,), dtype, passive.value)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    base = (getattr(text, "rope_parameters", None) or {}).get("rope_theta", 10000.0)
    powers = torch.arange(0, head, 2, dtype=torch.float32) / head
    return Entry((len(powers),), torch.float32, lambda: 1.0 / base**powers)


def _pad_vocabulary(plan: Plan, target: Layout, out: dict[str, Entry], kept: Mapping[str, Entry]) -> None:
    for ours in WORDS:
        name = target.theirs(ours)
        if name is None or name not in out:
            continue
        words = out[name]
        rows = kept.get(f"{name}{ROWS}")
        if rows is None:
            size = -(-(words.shape[0] + _ADDED) // _MULTIPLE) * _MULTIPLE
            rows = Entry.filled((size - words.shape[0], *words.shape[1:]), words.dtype, 0.0)
            plan.report.filled.append(f"{name}{ROWS}")
        out[name] = Entry.stacked([words, rows])
