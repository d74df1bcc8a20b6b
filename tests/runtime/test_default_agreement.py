"""The shipped default: torch and ONNX are one model; what 8 bits change is counted."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from default_model import analyzer, astronaut
from facellava import weights
from facellava.face import FaceFrontEnd, read_media
from facellava.tasks import all_tasks
from facellava.types import FaceClip

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PROMPTS = 50


def clips(shared: Path, n: int) -> list[FaceClip]:
    front = FaceFrontEnd(weights.resolve, margin=0.6)
    rows = (json.loads(x) for x in (shared / "faces" / "congress.jsonl").read_text().splitlines())
    test = islice((r for r in rows if r["split"] == "test"), n)
    return [front.clips(read_media(shared / "faces" / r["file"]))[0] for r in test]


def questions() -> list[str]:
    """Real prompts: the tasks' own questions, by turns."""
    tasks = list(all_tasks().values())
    return [tasks[i % 5].questions[i // 5].replace("{media}", "image") for i in range(PROMPTS)]


@pytest.fixture(scope="module")
def faces(shared_dir: Path) -> list[FaceClip]:
    return clips(shared_dir, 10)


def test_torch_and_onnx_give_the_same_logits_and_the_same_greedy_tokens(faces: list[FaceClip]) -> None:
    from facellava.runtime.torch_model import load_torch

    torch.set_num_threads(2)
    engine = analyzer("fp32").engine
    model, processor = load_torch(weights.resolve)
    different = 0.0
    for i, question in enumerate(questions()):
        clip = faces[i % len(faces)]
        batch = processor(clip, [{"role": "user", "content": question}])
        with torch.no_grad():
            expected = model(**batch).logits[0, -1].numpy()
            ids = model.generate(**batch, max_new_tokens=24, do_sample=False)
        seen = engine.look(clip)
        got = engine._asked(seen, question).logits
        different = max(different, float(np.abs(got - expected).max()))
        text = processor.decode(ids[0, batch["input_ids"].shape[1] :])
        assert "".join(engine.ask(seen, question, max_new_tokens=24)) == text
    assert different < 1e-3


def test_eight_bit_answers_mostly_equal_float_answers(faces: list[FaceClip]) -> None:
    exact, small = analyzer("fp32").engine, analyzer("int8").engine
    equal = 0
    for i, question in enumerate(questions()):
        clip = faces[i % len(faces)]
        answers = ["".join(e.ask(e.look(clip), question, max_new_tokens=40)) for e in (exact, small)]
        equal += answers[0] == answers[1]
    print(f"equal greedy answers: {equal} of {PROMPTS}")
    assert equal >= 25


def test_fp32_reads_the_astronaut_as_int8_does() -> None:
    results = [analyzer(p).analyze(astronaut()).faces[0] for p in ("fp32", "int8")]
    assert results[0].expression.label == results[1].expression.label
    assert abs(results[0].age.years - results[1].age.years) <= 3
