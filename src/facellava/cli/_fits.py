"""What of a model fits where, for ``facellava doctor --model``: devices, arithmetic, and a table of both."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from facellava.errors import FileMissing, MissingExtra, UsageError
from facellava.files import read_object

if TYPE_CHECKING:
    from facellava.model.config import FaceLlavaConfig
    from facellava.model.footprint import Footprint

DEFAULT = "default"
PRESETS = ("paper-7b", "release-7b")
CARDS = (8, 16, 24, 40, 80)
"""Common sizes of graphics cards, in 10^9 bytes."""
USABLE = 0.9
"""Share of a card that a model may fill: drivers and fragments take the rest."""
_NEW = ("frlp", "frgca")
"""Parts that Face-LLaVA adds to Video-LLaVA."""


class Device(NamedTuple):
    """Somewhere to run. ``usable`` bytes: what is free now, or a share of a card that is not here."""

    name: str
    kind: Literal["gpu", "cpu"]
    total: int
    usable: int
    present: bool


def model_facts(name: str) -> dict[str, Any]:
    """Everything about a model's needs, ready for JSON; bytes.

    Args:
        name: ``default``, a preset, or a folder with config.json.

    Raises:
        MissingExtra: torch is not installed. FileMissing, UsageError, DamagedCheckpoint: no such model.
        WeightsUnavailable: the default's language model is not on this machine.
    """
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtra("torch", "doctor --model") from error
    from facellava.model.footprint import TEXT_TOKENS, measure

    config = _configuration(name)
    found = measure(config)
    return {
        "id": name,
        "parameters": {**found.parameters, "total": found.total},
        "new_parameters": sum(found.parameters.get(part, 0) for part in _NEW),
        "text_tokens": TEXT_TOKENS,
        **{case.name: {"frames": case.frames, "visual_tokens": case.visual, "tokens": case.tokens}
           for case in found.cases},
        "experts": _experts(config),
        "needs": _needs(found),
        "fits": [_fits(device, found) for device in _devices()],
    }  # fmt: skip


def _configuration(name: str) -> FaceLlavaConfig:
    from facellava.model.config import FaceLlavaConfig
    from facellava.model.layouts import paper_7b, release_7b
    from facellava.runtime.build import DEFAULT_MODEL

    if name in PRESETS:
        return {"paper-7b": paper_7b, "release-7b": release_7b}[name]()
    folder = DEFAULT_MODEL if name == DEFAULT else Path(name)
    if (folder / "model.json").is_file():
        return _small_default(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise FileMissing(f"{name} holds no config.json: name a folder with one, 'default', or {' or '.join(PRESETS)}")
    kind = read_object(path).get("model_type")
    if kind != FaceLlavaConfig.model_type:
        raise UsageError(f"{folder} holds a model of type {kind}: make it ours with facellava convert")
    try:
        return FaceLlavaConfig.from_pretrained(folder)
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from error


def _small_default(folder: Path) -> FaceLlavaConfig:
    from facellava import weights
    from facellava.model.gguf_weights import read_sizes
    from facellava.runtime.build import ModelCard
    from facellava.runtime.torch_model import expert_config

    card = ModelCard.read(folder)
    sizes = read_sizes(weights.resolve(card.base, offline=True))
    return expert_config(sizes, fusion="paper", heads=card.heads, placeholder=card.placeholder, margin=card.crop_margin)


def _experts(config: FaceLlavaConfig) -> int:
    """Bytes of the face experts' files that a model looks through, which stay in memory beside it; 0 without them."""
    from facellava import weights
    from facellava.model.config import ExpertVisionConfig
    from facellava.model.experts import WEIGHTS

    if not isinstance(config.vision, ExpertVisionConfig):
        return 0
    return sum(item.weight.size for item in weights.status() if item.weight.name in WEIGHTS)


def _needs(found: Footprint) -> list[dict[str, Any]]:
    from facellava.model.precision import PRECISIONS, form_of

    rows = []
    for precision in PRECISIONS:
        for kind in ("gpu", "cpu"):
            form = form_of(precision, kind)
            if form is None:
                continue
            cases = {case.name: found.need(case, form) for case in found.cases}
            needs = {name: {**asdict(need), "total": need.total} for name, need in cases.items()}
            rows.append({"precision": precision, "device": kind, "weights": found.weights(form), **needs})
    return rows


def _fits(device: Device, found: Footprint) -> dict[str, Any]:
    """A device with, for every precision, whether a picture and a video fit; None where it cannot be loaded so."""
    from facellava.model.precision import PRECISIONS, form_of

    row: dict[str, Any] = device._asdict()
    for precision in PRECISIONS:
        form = form_of(precision, device.kind)
        row[precision] = form and {c.name: found.need(c, form).total <= device.usable for c in found.cases}
    return row


def _devices() -> list[Device]:
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(Device(f"GPU {index}: {torch.cuda.get_device_name(index)}", "gpu", total, free, True))
    if memory := _memory():
        found.append(Device("RAM", "cpu", *memory, True))
    cards = [Device(f"card of {size} GB", "gpu", size * 10**9, int(size * 10**9 * USABLE), False) for size in CARDS]
    return found + cards


def _memory() -> tuple[int, int] | None:
    """(total, available) bytes of memory, within a container's limit; None where the system does not tell."""
    with contextlib.suppress(OSError):
        lines = dict(re.findall(r"^(\w+):\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE))
        if "MemTotal" in lines and "MemAvailable" in lines:
            return _limited(1024 * int(lines["MemTotal"]), 1024 * int(lines["MemAvailable"]))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, int(total * USABLE)
    return None


def _limited(total: int, available: int) -> tuple[int, int]:
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())  # "max" without a limit
        used = int((group / "memory.current").read_text())
        return min(total, limit), min(available, max(limit - used, 0))
    return total, available


def print_facts(facts: dict[str, Any]) -> None:
    """For people; GB are 10^9 bytes."""
    parts = ", ".join(f"{name} {n:,}" for name, n in facts["parameters"].items() if name != "total")
    print(f"model     {facts['id']}: {facts['parameters']['total']:,} parameters ({parts})")
    if facts["new_parameters"]:
        print(f"          {facts['new_parameters']:,} of them are Face-LLaVA's own (FRLP and FRGCA)")
    image, video = facts["image"], facts["video"]
    print(
        f"          a picture is {image['visual_tokens']:,} tokens, a video {video['visual_tokens']:,} "
        f"({video['frames']} frames); with {facts['text_tokens']} of text"
    )
    if facts["experts"]:
        print(f"          its face experts are files of {facts['experts'] / 1e9:.2f} GB, in memory besides")
    heads = ("GB", "weights", "KV image", "KV video", "other image", "other video", "all image", "all video")
    print("needs     " + f"{heads[0]:<12}" + "".join(f"{head:>12}" for head in heads[1:]))
    for row in facts["needs"]:
        numbers = [row["weights"]]
        for part in ("kv_cache", "activations", "total"):
            numbers += [row[case][part] + (row[case]["states"] if part == "activations" else 0)
                        for case in ("image", "video")]  # fmt: skip
        name = f"{row['precision']} {row['device']}"
        print("          " + f"{name:<12}" + "".join(f"{n / 1e9:>12.2f}" for n in numbers))
    _print_fits(facts["fits"])


def _print_fits(rows: list[dict[str, Any]]) -> None:
    from facellava.model.precision import PRECISIONS

    width = max(len(row["name"]) for row in rows) + 2
    print("fits      " + f"{'':<{width}}{'GB usable':>10}" + "".join(f"{precision:>10}" for precision in PRECISIONS))
    for row in rows:
        cells = "".join(f"{_cell(row[precision]):>10}" for precision in PRECISIONS)
        print("          " + f"{row['name']:<{width}}{row['usable'] / 1e9:>10.1f}{cells}")


def _cell(fits: dict[str, bool] | None) -> str:
    if fits is None:
        return "-"
    return "yes" if all(fits.values()) else "image" if fits["image"] else "no"
