"""``facellava train`` and ``facellava ablate`` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# not importorskip: importing transformers here would load the model before its tests switch on the checks of shapes
pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="needs the train extra")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "facellava", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_plan_as_json() -> None:
    done = run("train", "paper-7b", "--plan", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert [stage["name"] for stage in plan["stages"]] == ["pretrain", "finetune"]
    assert plan["stages"][0]["trained"] == 68_280_320


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "nowhere"], 10, "is no file and not among the shipped recipes"),
        (["train", "smoke", "--set", "data.paths=['/nowhere']"], 10, "holds no training data"),
        (["train", "smoke", "--set", "stages.x.lr=1"], 2, "there is no 'x' among pretrain, finetune"),
        (["train", "smoke", "--set", "nothing"], 2, "write it as KEY=VALUE"),
        (["ablate", "table9", "--data", "x", "--test", "y", "--out", "z"], 10, "there is no table table9"),
    ],
)
def test_mistakes(arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
    done = run(*arguments)
    assert done.returncode == code and message in done.stderr
    assert done.stderr.count("facellava: error:") == 1 and "Traceback" not in done.stderr
