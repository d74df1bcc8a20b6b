"""From a recipe's wishes to what this machine can do."""

from __future__ import annotations

import os
import time
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from facellava.training.recipe import HardwareConfig


def computes_bf16() -> bool:
    """Whether bf16 is computed in hardware. Processors without it take 65 to 125 times as long as with fp32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supports = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(ask and ask()) for ask in supports)


def uses_bf16(config: HardwareConfig) -> bool:
    """Whether to train in mixed precision."""
    return config.precision == "bf16" or (config.precision == "auto" and computes_bf16())


def shard_settings(config: HardwareConfig) -> dict[str, Any]:
    """Arguments of ``TrainingArguments`` that shard the model over processes; none without ``shard``."""
    if not config.shard:
        return {}
    folder = Path(str(resources.files("facellava.training") / "shard"))
    if config.shard == "fsdp2":
        return {"fsdp": True, "fsdp_config": str(folder / "fsdp2.json")}
    return {"deepspeed": str(folder / f"{config.shard}.json")}


def process_count() -> int:
    """Processes that torchrun or accelerate started for this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def rank() -> int:
    """Number of this process among those of the run."""
    return int(os.environ.get("RANK", "0"))


def wait_for(path: Path, seconds: float = 7200.0) -> None:
    """Until another process has written a file."""
    deadline = time.monotonic() + seconds
    while not path.is_file():
        assert time.monotonic() < deadline, f"nobody wrote {path}"
        time.sleep(0.1)
