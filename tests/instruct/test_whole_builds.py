"""Whole builds: without a service, and with a real HTTP annotator and rater that fail in every way."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from build_world import annotate, draw, is_rating, make_faces, rate, recipe_text
from fault_server import FaultServer, text_of

from facellava.errors import BudgetExceeded, ConsentNeeded, EmptyDataset
from facellava.instruct.dataset import read_dataset
from facellava.instruct.executor import LocalEngine
from facellava.instruct.output import write
from facellava.instruct.pipeline import Build
from facellava.instruct.recipe import Recipe, load_recipe
from facellava.instruct.services import Services

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MEDIA_FAULTS = {"two": "several_faces", "wall": "no_face", "empty": "empty_file", "notes": "unsupported_media"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    root = tmp_path_factory.mktemp("faces")
    return root, make_faces(root)


def load(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.toml"
    path.write_text(text)
    return load_recipe(str(path))


def run(recipe: Recipe, out: Path, workers: int = 1) -> dict:
    services = Services(recipe, out)
    summary = write(Build(recipe, out, LocalEngine(workers), services).run(), recipe, out)
    return {**summary, "calls": services.counts()}


def ends(out: Path) -> tuple[list[str], dict[str, dict]]:
    """Ids of the rows, and the ledger by id."""
    rows = [row.id for row in read_dataset(out / "dataset")]
    ledger = [json.loads(line) for line in (out / "dataset" / "rejections.jsonl").read_text().splitlines()]
    assert len(ledger) == len({entry["sample"] for entry in ledger})
    return rows, {entry["sample"]: entry for entry in ledger}


def test_every_sample_is_a_row_or_a_line_of_the_ledger(faces: tuple[Path, int], tmp_path: Path) -> None:
    root, count = faces
    recipe = load(tmp_path, recipe_text(root))
    summary = run(recipe, tmp_path / "out")
    rows, ledger = ends(tmp_path / "out")
    assert summary["read"] == count == len(rows) + len(ledger)
    assert set(rows).isdisjoint(ledger)
    for stem, code in {**MEDIA_FAULTS, "gone": "file_missing"}.items():
        found = [entry for name, entry in ledger.items() if name.startswith(f"folder/{stem}.")]
        assert found and {(entry["stage"], entry["code"]) for entry in found} == {("preprocess", code)}
        assert all(entry["message"] for entry in found)


def test_rows_say_what_the_labels_say(faces: tuple[Path, int], tmp_path: Path) -> None:
    from facellava import tasks
    from facellava.instruct.annotate import says

    recipe = load(tmp_path, recipe_text(faces[0]))
    run(recipe, tmp_path / "out")
    seen = Counter()
    for row in read_dataset(tmp_path / "out" / "dataset"):
        task = tasks.get(row.task)
        assert says(task, row.description, row.label), row.description
        assert row.question in {q.replace("{media}", row.kind) for q in task.questions}
        assert row.landmarks is not None and row.landmarks.shape == (len(row.times), 68, 2)
        assert row.data is not None and row.licence == "CC0"
        seen[row.task, row.kind] += 1
    assert {task for task, _ in seen} == set(tasks.all_tasks())
    assert {kind for _, kind in seen} == {"image", "video"}


def test_same_bytes_again_with_more_workers_and_another_place(faces: tuple[Path, int], tmp_path: Path) -> None:
    outs = []
    for name, workers in (("one", 1), ("two", 2)):
        recipe = load(tmp_path, recipe_text(faces[0]))
        run(recipe, tmp_path / name, workers)
        folder = tmp_path / name / "dataset"
        outs.append({p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()})
    assert outs[0].keys() == outs[1].keys()
    assert [name for name in outs[0] if outs[0][name] != outs[1][name]] == []


def test_second_run_does_nothing_anew(faces: tuple[Path, int], tmp_path: Path) -> None:
    recipe = load(tmp_path, recipe_text(faces[0]))
    run(recipe, tmp_path / "out")
    journals = {p.name: p.read_bytes() for p in (tmp_path / "out" / "journal").iterdir()}
    run(recipe, tmp_path / "out")
    assert journals == {p.name: p.read_bytes() for p in (tmp_path / "out" / "journal").iterdir()}


def test_deleted_clip_is_made_again(faces: tuple[Path, int], tmp_path: Path) -> None:
    recipe = load(tmp_path, recipe_text(faces[0]))
    run(recipe, tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out" / "clips").rglob("*.safetensors")}
    victim = next((tmp_path / "out" / "clips").rglob("*.safetensors"))
    victim.unlink()
    run(recipe, tmp_path / "out")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "out" / "clips").rglob("*.safetensors")}


# --- with a service ---

FAULTS = ("429", "500", "503", "hang", "cut", "not-json", "other-form")


def transport_fault(seen: int, body: dict) -> str:
    """About half of the requests fail at first, some of them twice."""
    number = draw(str(body["messages"]), "fault")
    return FAULTS[number // 4 % len(FAULTS)] if number % 2 == 0 and seen <= number // 2 % 2 else ""


def moody(body: dict) -> str:
    """Answers by rule; some leak, break the form or refuse at first, and a few always do."""
    text = text_of(body)
    if is_rating(text):
        return rate(text)
    first = text.split("\n\nAnswer ")[0]
    number, again = draw(first, str(body["messages"][0]["content"][:-1])) % 8, "could not be used" in text
    good = annotate(first)
    if number == 0 and not again:
        return good.replace('"reason": "', '"reason": "As stated in the given label, ')
    if number == 1 and not again:
        return good[:-20]
    if number == 2 and not again:
        return "Here you are:\n```json\n" + good + "\n```"
    if number == 3:
        return json.dumps(
            {"label": json.loads(good)["label"], "reason": "I cannot determine anything about this face."}
        )
    if number == 4:
        return json.dumps({"answer": 1})
    return good


def test_build_with_a_failing_annotator_and_rater(faces: tuple[Path, int], tmp_path: Path) -> None:
    root, count = faces
    with FaultServer(moody, transport_fault, retry_after=0.05, hang=2.2) as server:
        recipe = load(tmp_path, recipe_text(root, server.url))
        summary = run(recipe, tmp_path / "out")
        rows, ledger = ends(tmp_path / "out")
        assert count == len(rows) + len(ledger)
        faults = {name for name, hits in server.faults.items() if hits}
        assert faults >= set(FAULTS) - {"hang"}, "the server did not fail often enough to mean anything"
        codes = Counter(entry["code"] for entry in ledger.values() if entry["stage"] != "preprocess")
        assert codes.keys() >= {"refused", "invalid_answer", "overall_rating"}
        assert max(Counter(name for _, name in server.served).values()) == 1, "nothing is paid twice"
        paid = len(server.served)
        assert summary["calls"]["127.0.0.1"]["retries"] > 0
        run(recipe, tmp_path / "out")
        assert len(server.served) == paid, "a finished build asks nothing"
        # another seed draws other questions; the descriptions are still the same and paid
        other = load(tmp_path, "seed = 7\n" + recipe_text(root, server.url))
        run(other, tmp_path / "out")
        assert len(server.served) == paid
    for row in read_dataset(tmp_path / "out" / "dataset"):
        assert row.annotation.model == "annotator-1" and row.annotation.prompt and row.annotation.input_tokens
        assert row.rating is not None and row.rating.overall > 6
        assert "given label" not in row.description
        leaked = "As stated" in row.description
        assert not leaked


def test_dead_service_becomes_rejections_that_are_tried_again(faces: tuple[Path, int], tmp_path: Path) -> None:
    def down(_seen: int, body: dict) -> str:
        return "503" if not is_rating(text_of(body)) and draw(str(body["messages"])) % 2 else ""

    with FaultServer(
        lambda body: rate(text_of(body)) if is_rating(text_of(body)) else annotate(text_of(body))
    ) as server:
        recipe = load(tmp_path, recipe_text(faces[0], server.url, max_retries=1))
        server.fault = down
        run(recipe, tmp_path / "out")
        _, ledger = ends(tmp_path / "out")
        assert "provider_failed" in {entry["code"] for entry in ledger.values()}
        server.fault = lambda _seen, _body: ""
        run(recipe, tmp_path / "out")
        _, ledger = ends(tmp_path / "out")
        assert "provider_failed" not in {entry["code"] for entry in ledger.values()}
        assert max(Counter(name for _, name in server.served).values()) == 1


def test_batches_give_the_same_dataset_as_single_calls(faces: tuple[Path, int], tmp_path: Path) -> None:
    with FaultServer(moody) as server:
        single = load(tmp_path, recipe_text(faces[0], server.url))
        run(single, tmp_path / "single")
        batched = load(tmp_path, recipe_text(faces[0], server.url, batch=True))
        run(batched, tmp_path / "batched")
        assert len(server.batches) == 2
    for part in ("data/train-00000-of-00001.parquet", "rejections.jsonl"):
        assert (tmp_path / "single/dataset" / part).read_bytes() == (tmp_path / "batched/dataset" / part).read_bytes()


def test_budget_ends_a_build_and_a_higher_one_goes_on(faces: tuple[Path, int], tmp_path: Path) -> None:
    with FaultServer(moody) as server:
        text = recipe_text(faces[0], server.url)
        with pytest.raises(BudgetExceeded, match=r"raise the cap in \[budget\]"):
            run(load(tmp_path, text + "[budget]\ntokens = 40000\n"), tmp_path / "out")
        assert server.served
        run(load(tmp_path, text + "[budget]\ntokens = 4000000\n"), tmp_path / "out")
        assert max(Counter(name for _, name in server.served).values()) == 1


def test_consent_comes_before_any_work(faces: tuple[Path, int], tmp_path: Path) -> None:
    recipe = load(tmp_path, recipe_text(faces[0], "https://api.example.com/v1"))
    with pytest.raises(ConsentNeeded, match=r"--send-media-to api\.example\.com"):
        run(recipe, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_estimate_asks_nobody(faces: tuple[Path, int], tmp_path: Path) -> None:
    with FaultServer(moody) as server:
        recipe = load(tmp_path, recipe_text(faces[0], server.url, price_input=1.0, price_output=2.0))
        found = Build(recipe, tmp_path / "out", LocalEngine(1), Services(recipe, tmp_path / "out")).estimate()
        assert not server.seen
    assert found["annotate_calls"] == found["rate_calls"] == found["samples"] > 20
    assert found["annotate_money"] > 0


def test_ablation_without_labels_asks_without_them(faces: tuple[Path, int], tmp_path: Path) -> None:
    asked: list[str] = []

    def note(body: dict) -> str:
        asked.append(text_of(body))
        return rate(text_of(body)) if is_rating(text_of(body)) else json.dumps({"label": "sadness", "reason": "x"})

    with FaultServer(note) as server:
        text = recipe_text(faces[0], server.url, use_labels=False, attempts=1).replace("[test]", "[test]", 1)
        recipe = load(tmp_path, text.replace("[[sources]]", "[[sources]]\ntasks = ['expression']"))
        with pytest.raises(EmptyDataset, match="no sample is left"):
            run(recipe, tmp_path / "out")
    assert (tmp_path / "out" / "dataset" / "rejections.jsonl").is_file(), "the reasons are there all the same"
    questions = [text for text in asked if not is_rating(text)]
    assert questions and all("Decide which of these it displays" in text for text in questions)
