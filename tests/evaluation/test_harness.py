"""Our benchmarks in other people's harnesses: the same questions, the same pictures, the same numbers.

What needs no harness is tested here; ``test_harness_real.py`` runs the real ones.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from build_world import make_faces, portrait
from eval_world import benchmark
from PIL import Image

from facellava.errors import FileMissing, UsageError
from facellava.evaluation.benchmark import Benchmark, read_items
from facellava.evaluation.harness.__main__ import main
from facellava.evaluation.harness.answerer import Answerer, one_medium
from facellava.evaluation.harness.lmms_scoring import HarnessTask, identifier
from facellava.evaluation.harness.lmms_tasks import write_tasks
from facellava.evaluation.harness.pictures import Shown, show
from facellava.evaluation.records import read_records
from facellava.evaluation.respondents import read_config
from facellava.evaluation.respondents.others import RecordedRespondent
from facellava.evaluation.run import Options, evaluate
from facellava.evaluation.score import arrays
from facellava.instruct.prompts import question_prompt
from facellava.instruct.recipe import SourceConfig
from facellava.types import Sample

UNUSABLE = {"folder/empty.jpg@expression", "folder/notes.png@expression", "folder/gone.png@expression"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces")
    make_faces(root, images=3, videos=1)
    return root


@pytest.fixture(scope="module")
def written(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tasks")
    write_tasks([benchmark(faces, task) for task in ("expression", "age", "action_units", "deepfake")], out)
    return out


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def utils_of(folder: Path) -> ModuleType:
    """The written module, loaded as the harness does."""
    spec = importlib.util.spec_from_file_location("utils", folder / "utils.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def scores_of_answers(small: Benchmark, texts: dict[str, str], folder: Path) -> dict[str, float]:
    """What ``facellava eval --model answers:FILE`` would count if it, too, could leave no sample out."""
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items()))
    who = RecordedRespondent(read_config(f"answers:{path}"))
    evaluate(small, who, folder / "runs", Options(workers=1, draws=2))
    records = [r for r in read_records(folder / "runs" / small.name / who.name) if r.id in texts]
    parsed = [getattr(small.spec.parse(texts[r.id]), small.spec.field) for r in records]
    said = [replace(r, status="answered", parsed=p) for r, p in zip(records, parsed, strict=True)]
    return arrays(small, said, "text").metrics()


# --- pictures ---


def sample(media: Path, kind: Any = "image", **more: Any) -> Sample:
    return Sample(f"s/{media.name}", "s", "test", "expression", media, kind, "happiness", **more)


def test_files_stay_where_they_are_unless_a_part_is_meant(faces: Path, tmp_path: Path) -> None:
    picture, video = faces / "face00.png", faces / "clip0.mp4"
    whole = show([sample(picture), sample(video, "video")], tmp_path, faces="whole")
    assert whole.found == {"s/face00.png": Shown((picture,)), "s/clip0.mp4": Shown((video,), is_video=True)}
    assert not list(tmp_path.iterdir())
    split = show([sample(video, "video")], tmp_path, faces="whole", split_videos=True).found["s/clip0.mp4"]
    assert len(split.files) == 8 and not split.is_video
    window = show([sample(video, "video", window=(0.0, 0.4))], tmp_path, faces="whole").found["s/clip0.mp4"]
    assert len(window.files) == 5, "twelve frames a second"
    frame = show([sample(video, frame=3)], tmp_path, faces="whole").found["s/clip0.mp4"]
    assert [pixels(path).shape for path in frame.files] == [(240, 240, 3)]


def test_a_labelled_box_is_shown_with_its_surroundings(faces: Path, tmp_path: Path) -> None:
    boxed = sample(faces / "two.png", box=(250.0, 30.0, 60.0, 80.0))
    (path,) = show([boxed], tmp_path, faces="whole").found["s/two.png"].files
    expected = pixels(faces / "two.png")[0:190, 190:370]
    assert np.array_equal(pixels(path), expected)


def test_what_cannot_be_shown_is_left_out_with_its_reason(faces: Path, tmp_path: Path) -> None:
    names = ("empty.jpg", "notes.png", "gone.png", "wall.png")
    found, left_out = show([sample(faces / name) for name in names], tmp_path, faces="whole")
    assert set(found) == {"s/wall.png"}, "there is no face on it, but a picture"
    assert "0 bytes" in left_out["s/empty.jpg"] and "does not exist" in left_out["s/gone.png"]


def test_crops_are_those_that_models_are_shown_in_a_run(faces: Path, tmp_path: Path) -> None:
    from default_model import require_weights

    require_weights()
    given = [sample(faces / "face00.png"), sample(faces / "wall.png"), sample(faces / "clip0.mp4", "video")]
    found, left_out = show(given, tmp_path, faces="crop")
    assert [pixels(path).shape for path in found["s/face00.png"].files] == [(256, 256, 3)]
    assert len(found["s/clip0.mp4"].files) == 8
    assert set(left_out) == {"s/wall.png"} and "no face" in left_out["s/wall.png"]


# --- lmms-eval ---


def test_a_task_asks_what_a_run_asks(faces: Path, written: Path) -> None:
    for task in ("expression", "age", "action_units"):
        small = benchmark(faces, task)
        rows = {row["id"]: row for row in rows_of(written / f"facellava_small_{task}")}
        assert rows
        for item in read_items(small):
            if item.sample.id not in rows:
                continue
            row, names = rows[item.sample.id], small.names if small.spec.kind != "multi" else item.sample.known
            frames = 8 if item.sample.kind == "video" else 1
            assert row["question"] == question_prompt(task, "metric", names, item.sample.kind, frames)[1]
            assert row["own_question"] == small.spec.questions[0].replace("{media}", item.sample.kind)
            assert row["is_video"] == (item.sample.kind == "video")
    age = rows_of(written / "facellava_small_age")[0]
    assert age["target"].endswith("years")


def test_samples_that_nobody_can_open_are_no_task(faces: Path, tmp_path: Path) -> None:
    left_out = write_tasks([benchmark(faces)], tmp_path)["facellava_small_expression"]
    assert set(left_out) == UNUSABLE
    assert not UNUSABLE & {row["id"] for row in rows_of(tmp_path / "facellava_small_expression")}
    (tmp_path / "facellava_small_expression" / "pictures").mkdir()
    write_tasks([benchmark(faces)], tmp_path, limit=2)
    assert len(rows_of(tmp_path / "facellava_small_expression")) <= 2
    assert not (tmp_path / "facellava_small_expression" / "pictures").exists(), "written anew, not over the old one"


def test_every_function_of_a_task_is_there(written: Path) -> None:
    yaml = pytest.importorskip("yaml")

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: f"!{loader.construct_scalar(node)}")
    for folder in sorted(written.iterdir()):
        task = yaml.load((folder / f"{folder.name}.yaml").read_text(), Loader)
        module = utils_of(folder)
        assert task["task"] == folder.name and task["tag"] == "facellava"
        assert task["dataset_kwargs"]["data_files"] == {"test": str(folder / "samples.jsonl")}
        assert task["lmms_eval_specific_kwargs"]["facellava"] == {"asked": "own_question"}
        named = [task["doc_to_visual"], task["doc_to_text"], task["process_results"]]
        named += [metric["aggregation"] for metric in task["metric_list"]]
        for name in named:
            assert callable(getattr(module, name.removeprefix("!utils.")))
        lower = {metric["metric"] for metric in task["metric_list"] if not metric["higher_is_better"]}
        assert lower == ({"mae"} if "age" in folder.name else set())


def test_pictures_come_upright_and_videos_as_paths(written: Path, faces: Path) -> None:
    folder = written / "facellava_small_expression"
    module = utils_of(folder)
    rows = {row["id"]: row for row in rows_of(folder)}
    (picture,) = module.doc_to_visual(rows["folder/face00.png@expression"])
    assert np.array_equal(np.asarray(picture), portrait(0))
    assert module.doc_to_visual(rows["folder/clip0.mp4@expression"]) == [str(faces / "clip0.mp4")]
    row = rows["folder/face00.png@expression"]
    assert module.doc_to_text(row) == module.doc_to_text(row, {"asked": "question"}) == row["question"]
    assert module.doc_to_text(row, {"asked": "own_question"}) == row["own_question"]


SAID = {
    "expression": ["happiness", "The face looks sad.", "I would say surprise.", "no idea"],
    "age": ["42", "about 30 years", "I cannot tell"],
    "action_units": ["AU6, AU12", "No action unit.", "AU1, AU2 and AU25"],
    "deepfake": ["real", "Fake.", "hard to say"],
}


@pytest.mark.parametrize("task", SAID)
def test_a_task_counts_as_a_run_does(task: str, faces: Path, written: Path, tmp_path: Path) -> None:
    folder, small = written / f"facellava_small_{task}", benchmark(faces, task)
    module, rows = utils_of(folder), rows_of(folder)
    texts = {row["id"]: SAID[task][n % len(SAID[task])] for n, row in enumerate(rows)}
    results = [module.process_results(row, [texts[row["id"]]]) for row in rows]
    ours = scores_of_answers(small, texts, tmp_path)
    for metric in small.metrics:
        theirs = getattr(module, identifier(metric))([result[metric] for result in results])
        assert theirs == pytest.approx(ours[metric], nan_ok=True), metric


def test_votes_and_folds_survive_the_way(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    root.mkdir()
    lines = ["file,expression,film"]
    for n in range(6):
        Image.fromarray(portrait(n)).save(root / f"{n}.png")
        lines.append(f"{n}.png,{'happiness' if n < 3 else 'sadness'},film{n // 3}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    source = SourceConfig("folder", root=str(root), options={"groups": {"film": "film"}})
    small = benchmark(root, sources=(source,), vote=("film",), metrics=("accuracy",))
    write_tasks([small], tmp_path / "tasks")
    folder = tmp_path / "tasks" / "facellava_small_expression"
    module = utils_of(folder)
    said = ["happiness", "happiness", "anger", "anger", "anger", "sadness"]
    results = [module.process_results(row, [text]) for row, text in zip(rows_of(folder), said, strict=True)]
    assert module.accuracy([result["accuracy"] for result in results]) == 0.5, "one film of two, by majority"


def test_metrics_that_words_cannot_give_are_no_metrics_of_a_task(faces: Path, tmp_path: Path) -> None:
    write_tasks([benchmark(faces, "age", metrics=("mae", "coverage", "in_range"))], tmp_path)
    text = (tmp_path / "facellava_small_age" / "facellava_small_age.yaml").read_text()
    assert '"mae"' in text and '"coverage"' in text and "in_range" not in text
    assert identifier("f1.AU12") == "f1_AU12"
    with pytest.raises(FileMissing, match="write the task again"):
        HarnessTask(tmp_path)


# --- our model for a harness ---


def test_visuals_become_one_medium() -> None:
    picture = Image.fromarray(portrait(0))
    assert one_medium(["a.mp4"]) == "a.mp4"
    single = one_medium([picture.convert("L")])
    assert isinstance(single, np.ndarray) and single.shape == (220, 220, 3)
    several = one_medium([picture, portrait(0)])
    assert isinstance(several, np.ndarray) and several.shape == (2, 220, 220, 3)
    for wrong, message in (
        ([], "without a picture"),
        ([picture, Image.fromarray(portrait(1))], "differ in size"),
        ([{"array": 0}], "cannot look at dict"),
        (["a.mp4", "b.mp4"], "cannot look at str"),
    ):
        with pytest.raises(UsageError, match=message):
            one_medium(wrong)


@pytest.mark.slow
def test_our_model_answers_a_harness_as_it_answers_a_user(faces: Path) -> None:
    from default_model import analyzer, require_weights

    require_weights()
    answerer = Answerer(threads=2)
    picture, question = Image.fromarray(portrait(0)), "Which expression does this face show?"
    expected = analyzer().ask(faces / "face00.png", question, max_new_tokens=20)
    assert isinstance(expected, str)
    assert answerer.answer([picture], question, max_new_tokens=20, key=1) == expected.strip()
    first = expected.split()[1]
    stopped = answerer.answer([], question, max_new_tokens=20, stop=[first], key=1)
    assert stopped == expected.split(first)[0].strip(), "the face of the same key is not looked at again"
    losses = answerer.losses([picture], question, [" happiness", "sadness", "anger"], key=2)
    assert sum(np.exp(-np.array(losses))) == pytest.approx(1.0)
    with pytest.raises(UsageError, match="two or more candidates"):
        answerer.losses([picture], question, ["happiness"])
    soft = picture.resize((40, 40)).resize(picture.size)
    assert answerer.answer([soft], question) == "", "too blurred to be judged"


# --- command line ---


def test_the_three_commands(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'name = "mine"\ntitle = "Mine"\ntask = "expression"\nmetrics = ["uar"]\nsplit = "train"\n'
        '[[sources]]\nname = "folder"\n'
    )
    common = [str(recipe), "--root", str(faces), "--workers", "1"]
    assert main(["lmms-eval", *common, "--out", str(tmp_path / "tasks")]) == 0
    assert (tmp_path / "tasks" / "facellava_mine" / "facellava_mine.yaml").is_file()
    told = capsys.readouterr()
    assert "--tasks facellava_mine" in told.out and "3 samples left out" in told.err
    again = ["vlmeval", *common, "--faces", "whole", "--open", "--paths", "--out", str(tmp_path)]
    assert main([*again[:2], "--root", f"folder={faces}", *again[4:]]) == 0
    assert "rows in" in capsys.readouterr().out
    (tmp_path / "p.jsonl").write_text('{"id": "a", "prediction": "fear"}\n')
    assert main(["answers", str(tmp_path / "p.jsonl"), str(tmp_path / "a.jsonl")]) == 0
    assert main(["answers", str(tmp_path / "gone.xlsx"), str(tmp_path / "a.jsonl")]) == FileMissing.exit_code
    assert "error:" in capsys.readouterr().err
