"""The real harnesses, in environments of their own: they pin what this package does not.

``FACELLAVA_LMMS_EVAL_PYTHON`` and ``FACELLAVA_VLMEVAL_PYTHON`` name a Python that has lmms-eval, or VLMEvalKit, beside
this package's dependencies (the model needs them in lmms-eval). Without them these tests skip.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from build_world import make_faces
from eval_world import benchmark

import facellava
from facellava.evaluation.harness.answerer import Answerer
from facellava.evaluation.harness.lmms_tasks import write_tasks
from facellava.evaluation.harness.predictions import import_predictions
from facellava.evaluation.harness.vlmeval import export_vlmeval
from facellava.evaluation.respondents import read_config
from facellava.evaluation.respondents.others import RecordedRespondent
from facellava.evaluation.run import Options, evaluate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SOURCE = Path(facellava.__file__).parents[1]
TASKS = ("expression", "age", "action_units")
CHOICES = """
import json, sys
from PIL import Image
from lmms_eval.api.instance import Instance
from lmms_eval.models import get_model
model = get_model("facellava").create_from_arg_string("pretrained=default,threads=2", {"batch_size": 1})
model.task_dict = {"t": {"test": [{"file": path} for path in sys.argv[1:]]}}
show = lambda doc: [Image.open(doc["file"]).convert("RGB")]
question = "Which expression does the face show?"
requests = [
    Instance("loglikelihood", (question, " " + name, show, n, "t", "test"), m, {"task": "t", "doc_id": n, "repeats": 1})
    for n in range(len(sys.argv) - 1) for m, name in enumerate(("anger", "happiness", "neutral"))
]
print("TOLD" + json.dumps(model.loglikelihood(requests)))
try:
    model.loglikelihood(requests[:1])
except NotImplementedError as error:
    print(error)
"""


def python(name: str, package: str) -> str:
    path = os.environ.get(name)
    if not path:
        pytest.skip(f"set {name} to a Python that has {package}")
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces")
    make_faces(root, images=3, videos=1)
    return root


def call(command: list[str], **more: Any) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", **more}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stderr + done.stdout


def count(small: Any, answers: dict[str, str], folder: Path) -> dict[str, float]:
    """Our own count of answers."""
    path = folder / f"{small.name}.jsonl"
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in answers.items()))
    who = RecordedRespondent(read_config(f"answers:{path}"))
    scores = evaluate(small, who, folder / "runs", Options(workers=1, draws=2))
    return {name: interval.value for name, interval in scores.views["text"].items()}


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What installing this package declares, for a copy that is only on the path."""
    site = tmp_path_factory.mktemp("site")
    folder = site / "facellava_harness-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: facellava-harness\nVersion: 0\n")
    (folder / "entry_points.txt").write_text(
        "[lmms_eval.models]\nfacellava = facellava.evaluation.harness.lmms_eval_plugin:manifest\n"
    )
    return site


def test_lmms_eval_gets_losses_of_choices(faces: Path, declared: Path) -> None:
    """By the model's class itself: lmms-eval 0.7.3 stops at any model's losses afterwards, as it reads them as text."""
    interpreter = python("FACELLAVA_LMMS_EVAL_PYTHON", "lmms-eval")
    from default_model import require_weights

    require_weights()
    path = os.pathsep.join([str(SOURCE), str(declared)])
    given = [str(faces / "face00.png"), str(faces / "wall.png")]
    printed = call([interpreter, "-c", CHOICES, *given], PYTHONPATH=path)
    told = json.loads(printed.split("TOLD")[1].splitlines()[0])
    losses = [loss for loss, _ in told[:3]]
    expected = Answerer(threads=2).losses(
        [faces / "face00.png"], "Which expression does the face show?", ["anger", "happiness", "neutral"]
    )
    assert losses == pytest.approx(expected, rel=1e-3)
    assert [likeliest for _, likeliest in told[:3]] == [loss == min(losses) for loss in losses]
    assert [entry[1] for entry in told[3:]] == [False] * 3, "a wall has no expression"
    assert "score answers against each other only" in printed


def test_lmms_eval_runs_our_tasks_with_our_model(faces: Path, declared: Path, tmp_path: Path) -> None:
    interpreter = python("FACELLAVA_LMMS_EVAL_PYTHON", "lmms-eval")
    from default_model import require_weights

    require_weights()
    small = {task: benchmark(faces, task) for task in TASKS}
    write_tasks(list(small.values()), tmp_path / "tasks")
    options = {
        "model": "facellava",
        "model_args": "pretrained=default,threads=2",
        "tasks": ",".join(f"facellava_small_{task}" for task in TASKS),
        "include_path": str(tmp_path / "tasks"),
        "batch_size": "1",
        "output_path": str(tmp_path / "out"),
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    printed = call(
        [interpreter, "-m", "lmms_eval", *given, "--log_samples"],
        PYTHONPATH=os.pathsep.join([str(SOURCE), str(declared)]),
        HF_HOME=str(tmp_path / "hub"),
    )
    # it ends with success whatever happened
    assert list((tmp_path / "out").rglob("*_results.json")), printed[-4000:]
    (path,) = (tmp_path / "out").rglob("*_results.json")
    results = json.loads(path.read_text())["results"]
    answerer = Answerer(threads=2)
    for task, expected in small.items():
        (path,) = (tmp_path / "out").rglob(f"*_samples_facellava_small_{task}.jsonl")
        metric = expected.metrics[0]
        rows = [json.loads(line)[metric] for line in path.read_text().splitlines()]
        answers = {row["id"]: row["text"] for row in rows}
        ours = count(expected, answers, tmp_path)
        for name in expected.metrics:
            assert results[f"facellava_small_{task}"][f"{name},none"] == pytest.approx(ours[name], nan_ok=True)
        question = expected.spec.questions[0].replace("{media}", "image")
        said = answerer.answer([str(faces / "face00.png")], question)
        assert said and answers[f"folder/face00.png@{task}"] == said, "our model was asked its own question"
        assert answers.get("folder/wall.png@expression", "") == "", "a wall has no face to speak of"


VLMEVAL = """
import json, os, sys
from vlmeval.dataset import DATASET_TYPE, build_dataset
from vlmeval.inference import infer_data_job

class Fixed:
    is_api = False
    def set_dump_image(self, dump): self.dump = dump
    def use_custom_prompt(self, dataset): return False
    def generate(self, message, dataset=None):
        shown.append([part["value"] for part in message])
        return "B" if DATASET_TYPE(dataset) == "MCQ" else "34"

told, work = {}, sys.argv[1]
for name in sys.argv[2:]:
    shown = []
    data = build_dataset(name)
    infer_data_job(Fixed(), work, "fixed", data)
    told[name] = {"class": type(data).__name__, "type": DATASET_TYPE(name), "shown": shown}
    if DATASET_TYPE(name) == "MCQ":
        table = data.evaluate(os.path.join(work, f"fixed_{name}.xlsx"), model="exact_matching", nproc=1)
        told[name]["accuracy"] = json.loads(table.to_json(orient="records"))[0]
print("TOLD" + json.dumps(told))
"""


def test_vlmevalkit_reads_our_tables_and_we_its_answers(faces: Path, tmp_path: Path) -> None:
    interpreter = python("FACELLAVA_VLMEVAL_PYTHON", "VLMEvalKit")
    data, work = tmp_path / "LMUData", tmp_path / "work"
    data.mkdir()
    work.mkdir()
    small = {task: benchmark(faces, task) for task in ("expression", "age")}
    closed = export_vlmeval(small["expression"], data, faces="whole")
    opened = export_vlmeval(small["age"], data, faces="whole", embed=False)
    printed = call([interpreter, "-c", VLMEVAL, str(work), closed.name, opened.name], LMUData=str(data))
    told = json.loads(printed.split("TOLD")[1])
    assert (told[closed.name]["class"], told[closed.name]["type"]) == ("CustomMCQDataset", "MCQ")
    assert (told[opened.name]["class"], told[opened.name]["type"]) == ("CustomVQADataset", "VQA")
    for done in (closed, opened):
        shown = told[done.name]["shown"]
        assert len(shown) == done.rows
        assert all(Path(value).is_file() for message in shown for value in message[:-1])
        assert {len(message) for message in shown} == {2, 9}, "a picture, or eight frames, and the question"
    names = small["expression"].names
    assert all(f"{'ABCDEFG'[n]}. {name}" in told[closed.name]["shown"][0][-1] for n, name in enumerate(names))
    answers = tmp_path / "answers.jsonl"
    assert import_predictions(work / f"fixed_{closed.name}.xlsx", answers) == closed.rows
    texts = {row["id"]: row["text"] for row in map(json.loads, answers.read_text().splitlines())}
    assert set(texts.values()) == {names[1]}, "the letter has become the option's text"
    ours = count(small["expression"], texts, tmp_path)
    assert told[closed.name]["accuracy"]["Overall"] == pytest.approx(ours["accuracy"])
    assert import_predictions(work / f"fixed_{opened.name}.xlsx", answers) == opened.rows
    texts = {row["id"]: row["text"] for row in map(json.loads, answers.read_text().splitlines())}
    assert set(texts.values()) == {"34"}
