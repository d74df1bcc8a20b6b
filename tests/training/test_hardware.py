"""Precision, sharding and the launcher's variables, as far as a machine without a card can tell."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from accelerate.utils import FullyShardedDataParallelPlugin  # noqa: E402
from accelerate.utils.deepspeed import HfDeepSpeedConfig  # noqa: E402
from transformers import TrainingArguments  # noqa: E402

from facellava.training import hardware  # noqa: E402
from facellava.training.recipe import HardwareConfig  # noqa: E402


def test_half_precision_only_where_it_is_computed() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.is_file() else set()
    expected = torch.cuda.is_available() or bool({"avx512_bf16", "amx_tile"} & flags)
    assert hardware.computes_bf16() == expected
    assert hardware.uses_bf16(HardwareConfig()) == expected
    assert hardware.uses_bf16(HardwareConfig(precision="bf16")) and not hardware.uses_bf16(HardwareConfig("fp32"))


def test_fsdp2_is_understood() -> None:
    """Parsed by transformers and accelerate; never run on cards here."""
    settings = hardware.shard_settings(HardwareConfig(shard="fsdp2"))
    arguments = TrainingArguments(output_dir="x", use_cpu=True, report_to="none", **settings)
    found = arguments.fsdp_config
    assert found["version"] == 2 and found["state_dict_type"] == "FULL_STATE_DICT"
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=found["version"],
        auto_wrap_policy=found["auto_wrap_policy"],
        reshard_after_forward=found["reshard_after_forward"],
        state_dict_type=found["state_dict_type"],
    )
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_zero_is_understood(name: str) -> None:
    """Read by accelerate's own reader; DeepSpeed itself needs a card to run."""
    path = hardware.shard_settings(HardwareConfig(shard=name))["deepspeed"]  # type: ignore[arg-type]
    config = json.loads(Path(path).read_text(encoding="utf-8"))
    assert config["zero_optimization"]["stage"] == int(name[-1])
    auto = {key for key, value in config.items() if value == "auto"}
    assert auto == {
        "gradient_accumulation_steps",
        "gradient_clipping",
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
    }, "what the recipe says is filled in by transformers"
    assert config["bf16"] == {"enabled": "auto"}
    reader = HfDeepSpeedConfig(config)
    assert reader.is_zero3() == (name == "zero3") and reader.is_zero2() == (name == "zero2")


def test_every_setting_of_sharding_has_its_file() -> None:
    names = {f.name for f in (resources.files("facellava.training") / "shard").iterdir()}
    assert names == {f"{kind}.json" for kind in ("fsdp2", "zero2", "zero3")}
    assert hardware.shard_settings(HardwareConfig()) == {}


def test_the_launchers_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (hardware.rank(), hardware.process_count(), hardware.is_main()) == (0, 1, True)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (hardware.rank(), hardware.process_count(), hardware.is_main()) == (3, 8, False)
