"""What a changed recipe asks again, and the three ablation recipes of Table 12, with a real HTTP service."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from build_world import annotate, draw, is_rating, make_faces, portrait, rate, recipe_text, video
from fault_server import FaultServer, text_of
from PIL import Image
from source_fixtures import fixtures

from facellava import tasks
from facellava.instruct import prompts
from facellava.instruct.executor import LocalEngine
from facellava.instruct.pipeline import Build, Result
from facellava.instruct.recipe import HeldOutConfig as HeldConfig  # pytest would collect the original name
from facellava.instruct.recipe import Recipe, load_recipe
from facellava.instruct.services import Services

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EXPRESSIONS = tasks.get("expression").names


class Service(FaultServer):
    """Answers by rule and counts what it was asked for; a question without a label gets one that follows from it."""

    def __init__(self) -> None:
        super().__init__(self.act)
        self.asked: Counter[str] = Counter()
        self.questions: list[str] = []

    def act(self, body: dict[str, Any]) -> str:
        text = text_of(body)
        with self.lock:
            self.asked["rate" if is_rating(text) else "annotate"] += 1
            self.questions.append(text)
        if is_rating(text):
            return rate(text)
        if "Decide which of these it displays" not in text:
            return annotate(text)
        name = EXPRESSIONS[draw(str(body["messages"])) % len(EXPRESSIONS)]
        return json.dumps({"label": name, "reason": f"Brows, lids and lips together give a look of {name}."})

    def new(self) -> dict[str, int]:
        """What was asked since the last call."""
        found, self.asked = dict(self.asked), Counter()
        return found


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        yield server


def run(recipe: Recipe, out: Path) -> Result:
    return Build(recipe, out, LocalEngine(1), Services(recipe, out)).run()


# --- what is asked again ---


@pytest.fixture
def small(tmp_path: Path, service: Service) -> Recipe:
    """Expressions and ages of a few pictures."""
    make_faces(tmp_path / "faces", images=7, videos=1)
    text = recipe_text(tmp_path / "faces", service.url)
    text = text.replace("[[sources]]", '[[sources]]\ntasks = ["expression", "age"]')
    (tmp_path / "recipe.toml").write_text(text.replace("per_task = 3", "per_task = 0"))
    return load_recipe(str(tmp_path / "recipe.toml"))


def changed(recipe: Recipe, part: str, **values: object) -> Recipe:
    return dataclasses.replace(recipe, **{part: dataclasses.replace(getattr(recipe, part), **values)})


def reword(monkeypatch: pytest.MonkeyPatch, purpose: str) -> None:
    """Add a sentence to the prompts of one purpose."""
    original = prompts._text

    def text(task: str, wanted: prompts.Purpose) -> str:
        found = original(task, wanted)
        return found.replace("one JSON object", "exactly one JSON object") if wanted == purpose else found

    monkeypatch.setattr(prompts, "_text", text)
    prompts.prompt.cache_clear()


@pytest.fixture(autouse=True)
def _forget_prompts() -> Iterator[None]:
    yield
    prompts.prompt.cache_clear()


def test_a_changed_rater_asks_for_ratings_only(
    small: Recipe, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = run(small, out)
    calls = service.new()
    assert calls["annotate"] == calls["rate"] == len(first.rows) + len(_filtered(first)) > 8
    other = changed(small, "rate", model="rater-2")
    run(other, out)
    assert service.new() == {"rate": calls["rate"]}
    run(small, out)
    assert service.new() == {}, "the first rater's marks are still there"
    reword(monkeypatch, "rate")
    again = run(small, out)
    assert service.new() == {"rate": calls["rate"]}
    before, after = ({row.sample.id: row for row in result.rows} for result in (first, again))
    shared = before.keys() & after.keys()
    assert shared and all(before[i].annotation == after[i].annotation for i in shared)
    hashes = [{row.rating.prompt for row in result.rows if row.rating} for result in (first, again)]
    assert hashes[0].isdisjoint(hashes[1])


def test_a_changed_annotator_asks_for_annotations_and_keeps_ratings_of_the_same_words(
    small: Recipe, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = run(small, out)
    calls = service.new()
    reword(monkeypatch, "annotate")
    again = run(small, out)
    assert service.new() == {"annotate": calls["annotate"]}, "the same words were rated before"
    hashes = [{row.annotation.prompt for row in result.rows} for result in (first, again)]
    assert hashes[0].isdisjoint(hashes[1])
    assert [row.annotation.description for row in first.rows] == [row.annotation.description for row in again.rows]
    run(changed(small, "annotate", model="annotator-2"), out)
    assert service.new() == {"annotate": calls["annotate"]}


def test_what_nobody_was_asked_about_costs_nothing(small: Recipe, service: Service, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(small, out)
    service.new()
    for other in (
        dataclasses.replace(small, seed=5, description="other words"),
        changed(small, "filter", threshold=9),
        changed(small, "filter", enabled=False),
        changed(small, "annotate", concurrency=1, price_input=3.0),
    ):
        run(other, out)
        assert service.new() == {}


def test_another_face_is_asked_about_anew(small: Recipe, service: Service, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(small, out)
    service.new()
    Image.fromarray(portrait(20)[5:]).save(tmp_path / "faces" / "face00.png")
    run(small, out)
    assert service.new() == {"annotate": 2, "rate": 2}, "one face, two tasks"


def _filtered(result: Result) -> list[str]:
    return [rejected.sample for rejected in result.rejected if rejected.stage == "filter"]


# --- Table 12 ---

LABELLED = ("mafw", "ferv39k", "crema_d")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny copies of the four sources in their official layouts, with a face in every clip."""
    places = {}
    number = 0
    for name in (*LABELLED, "mer2023"):
        places[name] = tmp_path_factory.mktemp(name)
        fixtures()[name].build(places[name])
        for path in sorted(places[name].rglob("*")):
            if path.suffix in (".mp4", ".avi", ".flv"):
                path.unlink()
                video(path, 2 * number, frames=6)
                number += 1
    return places


def sources_of(name: str) -> tuple[str, ...]:
    return (*LABELLED, "mer2023") if "extra" in name else LABELLED


def table12(name: str, world: dict[str, Path], service: Service, **more: Any) -> Recipe:
    """The shipped recipe, with its annotator and rater at the test's service."""
    recipe = load_recipe(name, {label: world[label] for label in sources_of(name)})
    here = {"kind": "openai", "base_url": service.url, "key_env": "", "first_wait": 0.02, "concurrency": 4}
    assert recipe.rate is not None
    return dataclasses.replace(
        recipe,
        annotate=dataclasses.replace(recipe.annotate, **here),
        rate=dataclasses.replace(recipe.rate, **here),
        **more,
    )


def questions(service: Service) -> list[str]:
    return [text for text in service.questions if not is_rating(text)]


def test_without_labels(world: dict[str, Path], service: Service, tmp_path: Path) -> None:
    result = run(table12("table12-without-labels", world, service), tmp_path / "out")
    assert {sample.source for sample in result.read} == set(LABELLED)
    assert len(set(questions(service))) == 1, "a question that is the same for all faces tells no label"
    assert "agreed" not in questions(service)[0]
    stated = {row.sample.id: tasks.get("expression").parse(row.annotation.description).label for row in result.rows}
    assert any(stated[row.sample.id] != row.sample.label for row in result.rows), "the model names labels of its own"
    assert _filtered(result), "filtering stays on"
    assert all(row.rating and row.rating.overall > 6 for row in result.rows)


def test_without_filtering(world: dict[str, Path], service: Service, tmp_path: Path) -> None:
    result = run(table12("table12-without-filtering", world, service), tmp_path / "out")
    assert {sample.source for sample in result.read} == set(LABELLED)
    assert {rejected.stage for rejected in result.rejected} <= {"preprocess"}
    assert len(result.rows) == len(result.read) - len(result.rejected) > 15
    assert min(row.rating.overall for row in result.rows if row.rating) <= 6, "marks are given, and remove nothing"
    assert all("agreed that the face displays" in text for text in questions(service))
    assert all(tasks.get("expression").parse(r.annotation.description).label == r.sample.label for r in result.rows)


def test_with_unlabelled_extra_data(world: dict[str, Path], service: Service, tmp_path: Path) -> None:
    # what is filtered depends on the bytes of the pictures: with a smaller share a class could have nothing to give
    held = HeldConfig(per_task=3, share=1.0)
    without = run(table12("table12-without-labels", world, service, test=held), tmp_path / "out")
    service.questions.clear()
    result = run(table12("table12-unlabelled-extra", world, service, test=held), tmp_path / "out")
    assert {sample.source for sample in result.read} == {*LABELLED, "mer2023"}
    extra = [sample for sample in result.read if sample.source == "mer2023"]
    assert len(extra) == 2 and all(sample.label is None for sample in extra)
    assert len(service.questions) == 2 * len(extra), "what both recipes hold was paid for before"
    assert all("Recorded expression: nothing; take the label" in q for q in service.questions if is_rating(q))
    tests = [sorted(row.sample.id for row in r.rows if row.subset == "test") for r in (without, result)]
    assert tests[0] == tests[1] and 0 < len(tests[0]) <= 3
    assert {name.split("/")[0] for name in tests[1]} <= set(LABELLED)
    rows = {row.sample.id for row in result.rows}
    assert {row.sample.id for row in without.rows} <= rows
    assert rows - {row.sample.id for row in without.rows} <= {sample.id for sample in extra}


def test_table_12_is_tested_elsewhere() -> None:
    """Its rows are tested on all of DFEW, so none of the three takes a test set out of its training data."""
    for name in ("without-labels", "without-filtering", "unlabelled-extra"):
        recipe = load_recipe(f"table12-{name}", dict.fromkeys(sources_of(name), Path("/x")))
        assert recipe.test.per_task == 0
        assert recipe.annotate.use_labels == (name == "without-filtering")
        assert recipe.filter.enabled == (name != "without-filtering")
        assert recipe.annotate.model and recipe.rate and recipe.rate.model, "pinned"
