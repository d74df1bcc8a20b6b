"""Judges that fail, refuse and garble; marks that are kept; agreement by hand; Table 10."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from build_world import draw, make_faces
from eval_world import Rule, benchmark
from fault_server import FaultServer, digest, text_of

from facellava.errors import BudgetExceeded, UsageError
from facellava.evaluation.judge import (
    CRITERIA,
    Judge,
    Marks,
    agreement,
    estimate_cost,
    judge_runs,
    load_marks,
    mean_marks,
    read_human,
    read_marks,
    refusals,
    spearman,
    weighted_kappa,
)
from facellava.evaluation.run import Options, evaluate
from facellava.instruct.recipe import ServiceConfig
from facellava.instruct.records import Rejected
from facellava.llm import Budget

SAYS = "The displayed expression is happiness. The lip corners are pulled up."


def marks_for(body: dict) -> str:
    """A judge's answer, by the question alone."""
    ratings = {name: 1 + draw(name, text_of(body)) % 10 for name in CRITERIA}
    return json.dumps({"ratings": ratings, "reason": "seen"})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, of two tasks."""
    root = tmp_path_factory.mktemp("judged")
    make_faces(root / "faces", images=6, videos=1)
    for task in ("expression", "age"):
        rule = Rule(lambda ask: (f"{SAYS} About {ask.id}: 40 years old.", None))
        evaluate(benchmark(root / "faces", task), rule, root / "runs", Options(workers=1, draws=10))
    return root / "runs"


def runs_of(world: Path) -> list[Path]:
    return [world / "small_expression" / "rule", world / "small_age" / "rule"]


def config(server: FaultServer, **more: object) -> ServiceConfig:
    given = {"model": "judge-1", "base_url": server.url, "first_wait": 0.02, "concurrency": 3, "max_retries": 4}
    return ServiceConfig("openai", **{**given, **more})  # type: ignore[arg-type]


def test_nothing_is_lost_and_nothing_paid_twice(world: Path, tmp_path: Path) -> None:
    """Each question meets three faults first; one answer in four is garbled once, one is always refused."""
    faults = ["429", "500", "cut"]

    def fault(seen: int, body: dict) -> str:
        if draw("refuse", text_of(body)[-60:]) % 8 == 0:
            return "refusal"
        return faults[seen] if seen < len(faults) else ""

    garbled: set[str] = set()

    def say(body: dict) -> str:
        name = digest(body)
        if draw("garble", text_of(body)) % 4 == 0 and "could not be used" not in text_of(body):
            garbled.add(name)
            return "I like it."
        return marks_for(body)

    with FaultServer(say, fault, retry_after=0.01) as server:
        judge = Judge(config(server), world / "judge")
        found = judge_runs(judge, runs_of(world), world)
        assert len(found) == 16
        assert {m.task for m in found} == {"expression", "age"}
        given = [m for m in found if m.marks is not None]
        assert sum(refusals(found).values()) + len(given) == 16
        assert len(server.served) == len(given) + len(garbled), "each answer was paid once"
        before = len(server.served)
        assert judge_runs(Judge(config(server), world / "judge"), runs_of(world), world) == found
        assert len(server.served) == before
    assert load_marks(world / "judge" / judge.name / "marks.jsonl") == found


def test_runs_judged_one_after_another_are_all_kept_and_bare_labels_are_not_judged(world: Path) -> None:
    with FaultServer(marks_for) as server:
        judge = Judge(config(server, model="each"), world / "judge")
        for run in runs_of(world):
            judge_runs(judge, [run], world)
        kept = load_marks(world / "judge" / judge.name / "marks.jsonl")
        assert {m.task for m in kept} == {"expression", "age"}
        with pytest.raises(UsageError, match="is not below"):
            judge_runs(judge, runs_of(world), world / "elsewhere")
        bare = Rule(lambda ask: ("Happiness.", None), name="bare")
        bare.combined = False
        evaluate(benchmark(world.parent / "faces"), bare, world, Options(workers=1, draws=10))
        with pytest.raises(UsageError, match="has to be asked with --reasoning"):
            judge_runs(judge, [world / "small_expression" / "bare"], world)
        with pytest.raises(UsageError, match="a cap on money needs prices"):
            Judge(config(server), world / "judge", budget=Budget(money=1.0))


def test_a_judge_at_its_cap_goes_on_later(world: Path) -> None:
    with FaultServer(marks_for) as server:
        poor = Judge(config(server, model="poor", concurrency=1), world / "judge", budget=Budget(tokens=8000))
        with pytest.raises(BudgetExceeded):
            judge_runs(poor, runs_of(world), world)
        paid = len(server.served)
        assert 0 < paid < 16
        judge_runs(Judge(config(server, model="poor"), world / "judge"), runs_of(world), world)
        assert len(server.served) == 16


def test_the_question_holds_truth_answer_and_pictures_and_can_be_estimated(world: Path) -> None:
    with FaultServer(marks_for) as server:
        judge = Judge(config(server, price_input=1.0), world / "judge")
        cost = estimate_cost(judge, runs_of(world), world)
        assert cost.calls == 16
        assert cost.money > 0
        assert not server.served
        seen: list[str] = []
        server.answer = lambda body: seen.append(text_of(body)) or marks_for(body)
        judge_runs(Judge(config(server, model="other"), world / "judge"), runs_of(world)[:1], world, limit=2)
    assert len(seen) == 2
    assert all(SAYS in text and "expression" in text for text in seen)


@pytest.mark.parametrize(
    "answer",
    [{}, {"ratings": {}}, {"ratings": dict.fromkeys(CRITERIA, 11)}, {"ratings": dict.fromkeys(CRITERIA, "good")},
     {"ratings": dict.fromkeys(CRITERIA, 7.5)}, {"ratings": [1, 2, 3]}, {"ratings": dict.fromkeys(CRITERIA, "٣")}],
)  # fmt: skip
def test_marks_are_whole_numbers_from_one_to_ten(answer: dict) -> None:
    with pytest.raises(Rejected):
        read_marks(answer)


def test_a_judge_needs_a_pinned_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pinned model"):
        Judge(ServiceConfig("rules"), tmp_path)


# --- tables and agreement ---


def given(run: str, name: str, task: str, *marks: int) -> Marks:
    return Marks(run, name, task, (marks[0], marks[1], marks[2]))


def test_all_is_the_mean_of_the_tasks_as_in_table_10() -> None:
    """Its last row: 7.95, 6.90, 8.34, 7.68, 8.56 make 7.89."""
    rows = [given("r", f"{task}{n}", task, 6 + n, 5, 5) for task, count in
            (("expression", 3), ("action_units", 1), ("attributes", 1), ("age", 1), ("deepfake", 1))
            for n in range(count)]  # fmt: skip
    found = mean_marks([*rows, Marks("r", "x", "age", None, "no", "refused")])
    assert found["description_media", "expression"] == (7.0, 3)
    assert found["description_media", "all"] == (pytest.approx((7 + 6 + 6 + 6 + 6) / 5), 7)
    assert ("description_media", "all") not in mean_marks(rows[:3])


def test_agreement_against_scikit_learn_and_scipy() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    one = rng.integers(1, 11, 60)
    two = np.clip(one + rng.integers(-2, 3, 60), 1, 10)
    labels = list(range(1, 11))
    assert weighted_kappa(one, two) == pytest.approx(
        sklearn.cohen_kappa_score(one, two, labels=labels, weights="quadratic"), abs=1e-12
    )
    assert spearman(one, two) == pytest.approx(stats.spearmanr(one, two).statistic, abs=1e-12)
    assert math.isnan(spearman(one, np.full(60, 3)))


def test_people_and_a_judge_are_compared_where_both_marked(tmp_path: Path) -> None:
    judge = [given("r", "a", "age", 8, 8, 8), given("r", "b", "age", 2, 4, 6), given("r", "c", "age", 5, 5, 5)]
    sheet = tmp_path / "people.csv"
    sheet.write_text(f"run,id,{','.join(CRITERIA)}\nr,a,8,7,8\nr,a,9,7,8\nr,b,2,4,6\nr,other,1,1,1\n")
    people = read_human(sheet)
    assert people[0].marks == (9, 7, 8), "two people's marks are averaged and rounded"
    found = agreement(judge, people)
    assert [a.n for a in found] == [2, 2, 2]
    assert found[2].kappa == 1.0
    assert found[0].distance == 0.5
    sheet.write_text(sheet.read_text(), encoding="utf-8-sig")
    assert read_human(sheet) == people, "as spreadsheets save it"
    sheet.write_text("run,id\nr,a\n")
    with pytest.raises(UsageError, match="column completeness is missing"):
        read_human(sheet)
    sheet.write_bytes(b"run,id\nr,Andr\xe9\n")
    with pytest.raises(UsageError, match=r"is no UTF-8 text \(byte 13\): save it as UTF-8"):
        read_human(sheet)
    sheet.write_text(f"run,id,{','.join(CRITERIA)}\nr,a,8,7,12\n")
    with pytest.raises(UsageError, match="line 2: completeness is '12'"):
        read_human(sheet)
