"""Plans: parameters are those that are stated, and memory is what a real step takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("peft")

from world import write_recipe, write_world

from facellava.errors import UsageError
from facellava.training.plan import plan_run
from facellava.training.recipe import load_recipe


def test_the_papers_new_parameters() -> None:
    """FRLP as in the release, FRGCA four layers of 4096 x 4096 with biases (section 4, appendix G)."""
    pretrain, finetune = plan_run(load_recipe("paper-7b")).stages
    assert pretrain.trained == 593_920 + 561_152 + 4 * (4096 * 4096 + 4096)
    vicuna = 6_738_415_616
    projector = 1024 * 4096 + 4096 + 4096 * 4096 + 4096
    assert finetune.trained == pretrain.trained + projector + vicuna
    assert pretrain.activations > 0 and finetune.optimizer > 80e9


def test_sharding_divides(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = plan_run(load_recipe("paper-7b")).stages[1]
    monkeypatch.setenv("WORLD_SIZE", "8")
    shared = plan_run(load_recipe("paper-7b")).stages[1]
    assert shared.optimizer * 8 == pytest.approx(alone.optimizer) and shared.weights == alone.weights
    assert shared.peak < 80e9, "eight cards of 80 GB are enough, as the paper says"
    whole = plan_run(load_recipe("paper-7b", {"hardware.shard": "zero3"})).stages[1]
    assert whole.weights * 8 == pytest.approx(alone.weights)


def test_one_card_of_24_gb() -> None:
    assert all(stage.peak < 24e9 for stage in plan_run(load_recipe("gpu-24gb")).stages)
    plain = load_recipe("gpu-24gb", {"hardware.checkpointing": "false"})
    assert plan_run(plain).stages[0].activations > 5 * plan_run(load_recipe("gpu-24gb")).stages[0].activations


def test_plans_with_data_count_steps(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, write_world(tmp_path))
    found = plan_run(load_recipe(str(path)))
    assert [stage.steps for stage in found.stages] == [4, 4]
    assert json.loads(found.json())["stages"][0]["peak"] == found.stages[0].peak
    assert "stage pretrain" in found.text() and "GB" in found.text()
    with pytest.raises(UsageError, match="visual tokens do not fit context=8"):
        plan_run(load_recipe(str(path), {"stages.pretrain.context": "8"}))
    with pytest.raises(UsageError, match="which is not there: for a plan without it give"):
        plan_run(load_recipe(str(path), {"model.start": "gone", "model.vision": "{}", "model.text": "{}"}))


STEP = """
import json, sys, threading, time, torch
from facellava.model.config import FaceLlavaConfig
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.training import modules
from facellava.model.zero_inputs import zero_inputs
from facellava.training.recipe import load_recipe

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

recipe = load_recipe(sys.argv[1])
stage = recipe.stages[1]
torch.set_num_threads(1)
text = {"vocab_size": 8000, **recipe.model.text}
parts = {"vision": dict(recipe.model.vision), "fusion": dict(recipe.model.fusion)}
config = FaceLlavaConfig(**parts, text_config=text, image_token_id=8000)
warm = torch.nn.Linear(64, 64)(torch.ones(8, 64)).sum().backward()  # what autograd itself takes
before, peak, done = resident(), 0, False

def watch():
    global peak
    while not done:
        peak = max(peak, resident())
        time.sleep(0.001)

thread = threading.Thread(target=watch)
thread.start()
model = FaceLlavaForConditionalGeneration(config).train()
chosen = modules.choose(model, stage)
optimizer = torch.optim.AdamW(chosen.values(), lr=1e-4)
rows, tokens = stage.micro_batch, stage.context
count = config.num_visual_tokens(1)
ids = torch.full((rows, tokens), 7)
ids[:, :count] = config.image_token_id
labels = torch.full_like(ids, -100)
labels[:, -(tokens // 4):] = 7
visual = {k: v.expand(rows, *v.shape).contiguous() for k, v in zero_inputs(config, 1, False).items()}
for _ in range(2):
    model(input_ids=ids, labels=labels, answers_only=True, **visual).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
done = True
thread.join()
print(json.dumps({"peak": peak - before}))
"""


@pytest.mark.slow
def test_memory_is_what_a_real_step_takes(tmp_path: Path) -> None:
    """Peak of the resident set over two real steps of a model of 60 million parameters: within 15 %."""
    path = write_recipe(
        tmp_path,
        tmp_path / "nowhere",
        ("hidden_size = 48", "hidden_size = 768"),
        ("intermediate_size = 96", "intermediate_size = 2048"),
        ("num_hidden_layers = 2", "num_hidden_layers = 8\nvocab_size = 8000"),
        ("num_attention_heads = 4", "num_attention_heads = 12"),
        ("num_key_value_heads = 2", "num_key_value_heads = 4"),
        ("batch = 4\nmicro_batch = 2\n[watch]", "batch = 4\nmicro_batch = 4\ncontext = 512\n[watch]"),
    )
    planned = plan_run(load_recipe(str(path))).stages[1]
    # what is freed goes back at once, so that tensors are measured and not the allocator's leavings
    variables = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", STEP, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200, env=variables)
    assert ran.returncode == 0, ran.stderr
    measured = json.loads(ran.stdout.splitlines()[-1])["peak"]
    assert planned.peak == pytest.approx(measured, rel=0.15)
