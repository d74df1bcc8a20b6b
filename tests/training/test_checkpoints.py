"""Checkpoints: what goes in comes out, no pickle, whole or not there."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from facellava.training import checkpoints as io  # noqa: E402


def test_an_optimizer_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    def make() -> tuple:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, betas=(0.8, 0.9))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return layer, optimizer, schedule

    def step(layer, optimizer, schedule) -> None:
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        schedule.step()

    one, other = make(), make()
    for _ in range(3):
        step(*one)
    io.save_optimizer(tmp_path / "o.safetensors", one[1].state_dict())
    io.save_json(tmp_path / "s.json", one[2].state_dict())
    io.save_tensors(tmp_path / "w.safetensors", one[0].state_dict())
    other[0].load_state_dict(io.load_tensors(tmp_path / "w.safetensors")[0])
    other[1].load_state_dict(io.load_optimizer(tmp_path / "o.safetensors"))
    other[2].load_state_dict(json.loads((tmp_path / "s.json").read_text()))
    for parts in (one, other):
        step(*parts)
    assert torch.equal(one[0].weight, other[0].weight)
    assert not [p for p in tmp_path.iterdir() if p.suffix not in (".safetensors", ".json")]


def test_random_numbers_go_on(tmp_path: Path) -> None:
    def draw() -> tuple:
        return random.random(), float(np.random.rand()), float(torch.rand(1)), random.gauss(0, 1)

    random.gauss(0, 1)  # leaves half a pair behind
    io.save_random(tmp_path / "r.safetensors")
    first = draw()
    draw()
    io.load_random(tmp_path / "r.safetensors")
    assert draw() == first
    io.load_random(tmp_path / "absent.safetensors")


def test_what_is_half_saved_is_no_checkpoint(tmp_path: Path) -> None:
    for n in (4, 20, 100):
        (tmp_path / f"checkpoint-{n}").mkdir()
    (tmp_path / io.STAGING / "checkpoint-104").mkdir(parents=True)
    assert [p.name for p in io.checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-20", "checkpoint-100"]
    io.clean(tmp_path)
    assert not (tmp_path / io.STAGING).exists()
    (tmp_path / io.STAGING / "checkpoint-108").mkdir(parents=True)
    io.publish(tmp_path, keep=2)
    assert [p.name for p in io.checkpoints(tmp_path)] == ["checkpoint-100", "checkpoint-108"]
