"""From a checkpoint's names to ours: what fills what, what is new, what is wrong. No tensor is read."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from facellava.errors import UsageError
from facellava.model.config import ClipVisionConfig, FaceLlavaConfig
from facellava.model.modeling import FaceLlavaForConditionalGeneration

from .known import BEHIND, detect, named
from .layout import Layout
from .presets import configuration
from .report import Report
from .source import Entry, Source

__all__ = ["PARTS", "Plan", "make_plan", "on_meta"]

PARTS = ("vision_tower.image", "vision_tower.video", "projector", "frlp", "frgca", "language_model")
TIME = re.compile(r"vision_tower\.video\.layers\.\d+\.time_")
ACROSS = "attention across time"
"""How the report calls what the hub's conversion drops of the video tower."""
UNASKED = "of landmark modules that this configuration does without"
ROWS = "#rows"
"""Behind the name of rows that were cut from a padded vocabulary."""
WORDS = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass
class Plan:
    """A checkpoint seen as a model of ours.

    Attributes:
        config: of the model.
        entries: every tensor of ours, in the order of the files that they are read from.
        left: tensors of the checkpoint that our model does not use, in its names.
        layout, sources, report: what was read (the checkpoint, then those of towers), and what was found.
    """

    config: FaceLlavaConfig
    entries: dict[str, Entry]
    left: dict[str, Entry]
    layout: Layout
    sources: tuple[Source, ...]
    report: Report

    @property
    def source(self) -> Source:
        """The checkpoint itself."""
        return self.sources[0]

    @property
    def dtype(self) -> torch.dtype:
        """The type that most parameters have."""
        return _usual(self.entries)


def on_meta(config: FaceLlavaConfig) -> FaceLlavaForConditionalGeneration:
    """The model without memory.

    Raises:
        UsageError: the configuration makes no model.
    """
    try:
        with torch.device("meta"):
            return FaceLlavaForConditionalGeneration(config)
    except (ValueError, TypeError) as error:
        raise UsageError(f"this configuration makes no model: {error}") from error


def make_plan(
    source: Source,
    layout: str = "",
    *,
    towers: Sequence[Source] = (),
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> Plan:
    """See what a checkpoint's tensors are for us. What is wrong with them is in the report: ``plan.report.refuse()``.

    Args:
        layout: a name, or empty to find it out.
        towers: checkpoints whose vision towers take the place of the source's.
        changes: see ``configuration``.
        seed: of parts that are new.
        dtype: cast everything; None keeps what is there.

    Raises:
        DamagedCheckpoint: unknown layout, or no config.json. UsageError: no language model, or contradictory settings.
    """
    chosen = named(layout) if layout else detect(source.entries, str(source.path))
    if "language_model" in chosen.new:
        raise UsageError(
            f"{source.path} holds {chosen.title} and no language model: convert a checkpoint with one, and give this "
            "one as --towers"
        )
    config = configuration(source, chosen, changes or {})
    report = Report(str(source.path), chosen.name, len(source.entries))
    plan = Plan(config, {}, {}, chosen, (source, *towers), report)
    model = on_meta(config)
    depth = config.vision.depth if isinstance(config.vision, ClipVisionConfig) else 0
    given = _sort(plan, source, chosen, depth)
    for other in towers:
        given = _with_towers(given, other, plan, depth)
    if chosen.padded:
        _cut_vocabulary(plan, given, config.text_config.vocab_size)
    expected = _untied(model, given, plan)
    _check(plan, given, expected)
    _add_new(plan, given, expected, model, seed)
    _warn(plan, model)
    ordered = sorted(given, key=lambda key: (given[key].file, key))
    plan.entries = {key: given[key] if dtype is None else given[key].cast(dtype) for key in ordered}
    return plan


def _sort(plan: Plan, source: Source, layout: Layout, depth: int) -> dict[str, Entry]:
    """Tensors by our names; the others go to the plan's leftovers or its report."""
    given: dict[str, Entry] = {}
    for key, entry in source.entries.items():
        passive = layout.unused(key)
        if key in layout.joined and not _unasked(plan.config, layout.joined[key][0]):
            given |= _split(layout.joined[key], entry)
        elif passive is not None:
            _leave(plan, key, entry, passive.reason)
        elif _unasked(plan.config, ours := layout.joined.get(key, [layout.ours(key)])[0]):
            _leave(plan, key, entry, UNASKED)
        elif ours is None:
            plan.report.unexpected.append(key)
        elif depth and (match := re.match(r"vision_tower\.\w+\.layers\.(\d+)\.", ours)) and int(match[1]) >= depth:
            _leave(plan, key, entry, BEHIND)
        else:
            given[ours] = entry
    return given


def _unasked(config: FaceLlavaConfig, ours: str | None) -> bool:
    """Whether this is a tensor of the landmark modules in a model that is configured without them."""
    part = _part(ours or "")
    return (part == "frgca" and config.fusion.kind == "none") or (part == "frlp" and not config.fusion.uses_landmarks)


def _split(names: tuple[str, ...], entry: Entry) -> dict[str, Entry]:
    """One tensor as several; what does not divide is left whole and fails the check of shapes."""
    rows = entry.shape[0] if entry.shape else 0
    if not rows or rows % len(names):
        return dict.fromkeys(names, entry)
    step = rows // len(names)
    return {name: entry.rows(i * step, (i + 1) * step) for i, name in enumerate(names)}


def _leave(plan: Plan, key: str, entry: Entry, reason: str) -> None:
    plan.left[key] = entry
    plan.report.dropped.setdefault(reason, []).append(key)


def _with_towers(given: dict[str, Entry], other: Source, plan: Plan, depth: int) -> dict[str, Entry]:
    """The same with the vision towers of another checkpoint."""
    layout = detect(other.entries, str(other.path))
    aside = Plan(plan.config, {}, {}, layout, (other,), plan.report)
    found = _sort(aside, other, layout, depth)
    found = {key: entry for key, entry in found.items() if key.startswith("vision_tower.")}
    replaced = {part for part in PARTS[:2] if any(key.startswith(part + ".") for key in found)}
    if not replaced:
        raise UsageError(f"--towers {other.path}: it holds no vision tower ({layout.title})")
    plan.report.tensors += len(other.entries)
    kept = {key: entry for key, entry in given.items() if not key.startswith(tuple(f"{part}." for part in replaced))}
    return kept | found


def _cut_vocabulary(plan: Plan, given: dict[str, Entry], size: int) -> None:
    for name in WORDS:
        entry = given.get(name)
        if entry is None or len(entry.shape) != 2 or entry.shape[0] <= size:
            continue
        rows = entry.shape[0]
        given[name] = entry.rows(0, size)
        theirs = plan.layout.theirs(name) or name
        _leave(plan, f"{theirs}{ROWS}", entry.rows(size, rows), "rows of tokens that stand for pictures or padding")


def _untied(model: nn.Module, given: dict[str, Entry], plan: Plan) -> dict[str, Tensor]:
    """The model's tensors, each once: a tied one under its first name. A checkpoint may hold the second name too."""
    seen: dict[int, str] = {}
    result: dict[str, Tensor] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        if id(value) in seen:
            if key in given:
                _leave(plan, plan.layout.theirs(key) or key, given.pop(key), f"tied to {seen[id(value)]}")
            continue
        seen[id(value)] = key
        result[key] = value
    return result


def _check(plan: Plan, given: dict[str, Entry], expected: Mapping[str, Tensor]) -> None:
    """Names, shapes and types; what is superfluous leaves ``given``."""
    report, layout = plan.report, plan.layout
    report.unexpected += [layout.theirs(key) or key for key in given if key not in expected]
    for key in given.keys() - expected.keys():
        del given[key]
    for key, entry in given.items():
        name = layout.theirs(key) or key
        wanted = expected[key]
        if entry.dtype not in (FLOATS if wanted.is_floating_point() else (wanted.dtype,)):
            report.wrong.append(f"{name} is of type {_short(entry.dtype)}, not {_kind(wanted)}")
        elif entry.shape != tuple(wanted.shape):
            report.wrong.append(f"{name} has shape {entry.shape}, not {tuple(wanted.shape)}")
    report.taken = len(given)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _kind(wanted: Tensor) -> str:
    return "a floating-point type of 16, 32 or 64 bits" if wanted.is_floating_point() else _short(wanted.dtype)


def _part(key: str) -> str:
    return next((part for part in PARTS if key.startswith(f"{part}.")), key.partition(".")[0])


def _add_new(
    plan: Plan,
    given: dict[str, Entry],
    expected: Mapping[str, Tensor],
    model: FaceLlavaForConditionalGeneration,
    seed: int,
) -> None:
    """Fill parts that the layout does not have; what else is absent is missing."""
    report, layout = plan.report, plan.layout
    absent = [key for key in expected if key not in given]
    dtype = _usual(given)
    there = {_part(key) for key in given}
    timeless = not any(TIME.match(key) for key in given) and "vision_tower.video" in there
    drawn = {part: _drawing(model, part, seed, dtype) for part in PARTS}
    for key in absent:
        part = _part(key)
        if part in layout.new and part not in there:
            report.initialised[part] = f"drawn with seed {seed}"
        elif timeless and TIME.match(key):
            report.initialised[ACROSS] = "without effect: its output is zero"
        else:
            report.missing.append(layout.theirs(key) or key)
            continue
        silent = TIME.match(key) is not None and timeless and (".time_attn.out." in key or "time_embedding" in key)
        shape = tuple(expected[key].shape)
        given[key] = Entry.filled(shape, dtype, 0.0) if silent else drawn[part](key, shape)
    report.missing = list(dict.fromkeys(report.missing))
    report.initialised = {part: report.initialised[part] for part in (*PARTS, ACROSS) if part in report.initialised}


def _drawing(model: FaceLlavaForConditionalGeneration, part: str, seed: int, dtype: torch.dtype) -> Any:
    """A function that gives entries of a part, drawn as the model draws its own, when the first of them is read."""

    @cache
    def draw() -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(f"{seed} {part}".encode()))
            module = model.get_submodule(part).to_empty(device="cpu")
            module.apply(model._init_weights)
        return {f"{part}.{key}": value.to(dtype) for key, value in module.state_dict().items()}

    def entry(key: str, shape: tuple[int, ...]) -> Entry:
        return Entry(shape, dtype, lambda: draw()[key])

    return entry


def _usual(entries: Mapping[str, Entry]) -> torch.dtype:
    sizes: Counter[torch.dtype] = Counter()
    for entry in entries.values():
        sizes[entry.dtype] += entry.size
    floats = {dtype: size for dtype, size in sizes.items() if dtype in FLOATS}
    return max(floats, key=lambda dtype: floats[dtype]) if floats else torch.float32


def _warn(plan: Plan, model: nn.Module) -> None:
    report = plan.report
    counts: Counter[str] = Counter()
    for key, value in model.named_parameters():
        counts[_part(key)] += value.numel()
    report.parameters = dict(counts)
    if ACROSS in report.initialised:
        report.warnings.append(
            "the video tower has no attention across time (the hub's conversion drops it): features of videos differ "
            "from the original model's. Take it from LanguageBind's video tower (--towers) or the original Video-LLaVA"
        )
    if new := [part for part in report.initialised if part.startswith("vision_tower")]:
        report.warnings.append(f"{', '.join(new)}: drawn at random, so the model sees nothing: give --towers")
    act = (plan.source.config.get("vision_config") or {}).get("hidden_act", "gelu")
    if plan.layout.padded and act != "gelu":
        report.warnings.append(f"config.json says that the towers use {act}; LanguageBind's and ours use gelu")
