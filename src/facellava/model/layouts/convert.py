"""From a checkpoint in any known layout to a folder of ours and back, or straight into memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig

from facellava.errors import UsageError
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import CONFIG_FILE
from facellava.model.prompt import PromptStyle

from .known import WRITABLE, detect, named
from .plan import Plan, make_plan
from .profiles import profile_named
from .report import Report
from .source import open_source, read_json
from .their_config import their_config
from .tokens import Style, copy_files, make_processor, require_tokenizer
from .write import KEPT, SHARD, kept_folder, their_tensors, whole_folder, write_ours, write_shards

__all__ = ["Loaded", "Options", "convert", "inspect", "load_model"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Options:
    """How to read a checkpoint.

    Attributes:
        layout: its name; empty to find it out.
        towers: checkpoints whose vision towers take the place of the source's.
        changes: tables ``vision``, ``fusion`` and ``text``, and single settings of ``FaceLlavaConfig``.
        seed: of parts that are new.
        dtype: ``float32``, ``bfloat16`` or ``float16``; empty keeps what is there, bit for bit.
        tokenizer: folder of the tokenizer; None for the source's.
        style: of turns, see ``make_processor``; empty for the profile's or the layout's.
        profile: a way to run the release's checkpoint (``PROFILES``), under ``changes`` and ``style``; empty for none.
    """

    layout: str = ""
    towers: Sequence[Path] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    dtype: str = ""
    tokenizer: Path | None = None
    style: Style = ""
    profile: str = ""


class Loaded(NamedTuple):
    """A model in memory, and what was found in its checkpoint."""

    model: FaceLlavaForConditionalGeneration
    report: Report


def inspect(source: Path, options: Options | None = None) -> Report:
    """What a checkpoint holds, without reading a tensor; raises only where its layout or sizes cannot be told.

    Raises:
        FileMissing, DamagedCheckpoint, UsageError: see ``open_source`` and ``make_plan``.
    """
    return _plan(source, options or Options()).report


def load_model(source: Path, options: Options | None = None) -> Loaded:
    """A checkpoint of any layout as a model of ours, in memory.

    Raises:
        FileMissing, UsageError: see ``make_plan``. DamagedCheckpoint: also for tensors other than the layout's.
    """
    plan = _plan(source, options or Options())
    plan.report.refuse()
    state = {key: entry.read() for key, entry in plan.entries.items()}
    model = FaceLlavaForConditionalGeneration.from_pretrained(
        None, config=plan.config, state_dict=state, dtype=plan.dtype
    )
    return Loaded(model, plan.report)


def convert(
    source: Path, target: Path, options: Options | None = None, *, to: str = "ours", shard: int = SHARD
) -> Report:
    """Write a checkpoint anew, in our layout or in another; tensors are read and written shard by shard.

    Args:
        target: a folder that is not there yet; it appears when it is whole.
        to: one of ``WRITABLE``.
        shard: bytes of a shard at most.

    Raises:
        FileMissing: the source is not there. UsageError: the target is there, or contradictory options, or a layout
            without a place for this model. DamagedCheckpoint: the source is broken or not what its layout asks for.
    """
    options = options or Options()
    if to not in WRITABLE:
        raise UsageError(f"cannot write layout '{to}'; choose one of {', '.join(WRITABLE)}")
    if options.profile and to != "ours":
        raise UsageError(f"profile '{options.profile}' says how a folder of ours runs: leave it out to write '{to}'")
    with whole_folder(target) as partial:
        plan = _plan(source, options)
        plan.report.refuse()
        plan.report.to = to
        if to == "ours":
            _to_ours(plan, partial, options, shard)
        else:
            _to_theirs(plan, partial, to, options, shard)
    return plan.report


def _plan(source: Path, options: Options) -> Plan:
    if options.dtype and options.dtype not in DTYPES:
        raise UsageError(f"dtype is {options.dtype!r}; choose one of {', '.join(DTYPES)}")
    opened, layout, changes = open_source(source), options.layout, options.changes
    if options.profile:
        profile = profile_named(options.profile)
        layout = layout or detect(opened.entries, str(opened.path)).name
        if layout not in profile.layouts:
            raise UsageError(f"profile '{profile.name}' is for layout {' or '.join(profile.layouts)}, not '{layout}'")
        changes = profile.over(changes)
    plan = make_plan(
        opened,
        layout,
        towers=[open_source(path) for path in options.towers],
        changes=changes,
        seed=options.seed,
        dtype=DTYPES.get(options.dtype),
    )
    plan.report.profile = options.profile
    return plan


def _to_ours(plan: Plan, folder: Path, options: Options, shard: int) -> None:
    report, given = plan.report, plan.source.folder
    words = require_tokenizer(options.tokenizer) if options.tokenizer else given
    own = read_json(given / CONFIG_FILE).get("style") if plan.layout.name == "ours" else None
    profile = profile_named(options.profile) if options.profile else None
    usual = profile.style if profile else plan.layout.prefers
    style = options.style or (PromptStyle(**own) if own else usual)
    processor, report.tokenizer = make_processor(words, plan.config, style)
    if processor is None:
        report.warnings.append(f"tokenizer: {report.tokenizer}")
    else:
        processor.save_pretrained(folder)
    report.files = write_ours(plan, folder, shard)
    if profile:
        text = plan.config.text_config
        marks = {name: getattr(text, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        GenerationConfig(**marks, **profile.generation).save_pretrained(folder)
    report.written = len(plan.entries)
    if (folder / KEPT).is_dir() and plan.layout.name != "ours":
        copy_files(given, folder / KEPT)


def _to_theirs(plan: Plan, folder: Path, to: str, options: Options, shard: int) -> None:
    target, report, given = named(to), plan.report, plan.source.folder
    entries = their_tensors(plan, target)
    if target.padded and any(".time_" in key for key in report.left_out):
        report.warnings.append("this layout has no attention across time: features of videos will differ")
    kept = kept_folder(given, to) if plan.layout.name == "ours" else None
    words = options.tokenizer or kept or given
    copied = copy_files(words, folder)
    report.tokenizer = f"from {words}" if copied else "none found"
    config = plan.source.config if plan.layout.name == to else read_json(kept / "config.json") if kept else {}
    rows = entries[target.theirs("language_model.model.embed_tokens.weight") or ""].shape[0]
    config = config or their_config(plan.config, target, rows)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    report.files = write_shards(entries, folder, plan.sources, shard)
    report.written = len(entries)
