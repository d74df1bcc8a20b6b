"""The report of a folder of runs: the paper's tables with ours in them, and a page that loads nothing."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from build_world import make_faces
from eval_world import Rule, benchmark, pick
from PIL import Image

from facellava.errors import FileMissing
from facellava.evaluation.judge import CRITERIA
from facellava.evaluation.report import write_report
from facellava.evaluation.respondents import Ask, Prediction
from facellava.evaluation.run import Options, evaluate
from facellava.evaluation.runs import find_runs

pytest.importorskip("fairlearn", reason="needs the eval extra")
NAMES = ("happiness", "neutral", "surprise")


def says(shift: int):
    def say(ask: Ask) -> tuple[str, Prediction]:
        label = NAMES[(len(ask.id) + shift) % 3]
        rest = (1 - 0.6) / 6
        return f"The face displays {label}.", Prediction(label, {n: 0.6 if n == label else rest for n in ask.names})

    return say


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reported")
    make_faces(root / "faces", images=6, videos=0)
    out, options = root / "runs", Options(workers=1, draws=20)
    evaluate(benchmark(root / "faces"), Rule(says(0), name="one"), out, options, title="Ours & co")
    evaluate(benchmark(root / "faces"), Rule(says(1), name="two"), out, options, title="Theirs")
    # somebody's copy of RAF-DB: the name decides which published table the numbers stand in
    raf = benchmark(root / "faces", name="raf_db", title="RAF-DB", metrics=("accuracy", "uar"))
    evaluate(raf, Rule(lambda ask: (pick(ask), None), name="one"), out, options, title="Ours & co")
    folder = out / "judge" / "judge-1"
    folder.mkdir(parents=True)
    marks = {
        "run": "small_expression/one",
        "id": "a",
        "task": "expression",
        "marks": [8, 7, 6],
        "reason": "",
        "code": "",
    }
    (folder / "marks.jsonl").write_text(json.dumps(marks) + "\n")
    return out


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_command_gives_a_table_that_a_reader_of_the_paper_recognises(runs: Path, tmp_path: Path) -> None:
    files = {path.name: path for path in write_report(runs, tmp_path)}
    assert {"report.html", "report.md", *(f"table{n}.tex" for n in (3, 4, 5, 7, 8, 9, 10, 12))} <= set(files)
    text = files["report.md"].read_text()
    accuracy = next(r for r in find_runs(runs) if r.benchmark.name == "raf_db").scores["views"]["text"]["accuracy"]
    table3 = text[text.index("Table 3 of the paper") :].split("\n\n**")[0]
    ours = next(line for line in table3.splitlines() if "Ours &amp; co" in line or r"Ours \& co" in line)
    assert f"{accuracy['value']:.3f}" in ours
    assert re.search(r"Face-LLaVA.*0\.780", table3)
    latex = files["table3.tex"].read_text()
    assert r"Ours \& co" in latex
    assert f"{accuracy['value']:.3f}" in latex
    judged = text[text.index("Table 10 of the paper") :].split("\n\n**")[0]
    assert re.search(r"Ours .*judged by judge-1.*8\.00.*7\.00.*6\.00", judged)


def test_the_page_is_whole_and_loads_nothing(runs: Path, tmp_path: Path) -> None:
    write_report(runs, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.sources
    assert all(source.startswith("data:") for source in page.sources)
    for part in ("confusion matrix", "reliability diagram", "Failure cases", "Paired comparisons", "unanswered wrong"):
        assert part in text
    assert "Ours &amp; co (parsed text) minus Theirs (parsed text)" in text


def faces_in(page: Path) -> list[np.ndarray]:
    found = re.findall(r"src='data:image/png;base64,([^']+)' alt='a face'", page.read_text())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"), float) for data in found]


def detail(pixels: np.ndarray) -> float:
    """What is left between neighbouring pixels."""
    return float(np.abs(np.diff(pixels, 2)).mean())


def test_faces_can_be_made_unrecognisable(runs: Path, tmp_path: Path) -> None:
    write_report(runs, tmp_path / "plain")
    write_report(runs, tmp_path / "blurred", blur=True)
    plain, blurred = (faces_in(tmp_path / kind / "report.html") for kind in ("plain", "blurred"))
    assert len(plain) == len(blurred) > 0
    for face, hidden in zip(plain, blurred, strict=True):
        assert detail(hidden) < detail(face) / 4


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="holds no finished run: run 'facellava eval"):
        write_report(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria_have_a_column_in_table_10(name: str) -> None:
    from facellava.evaluation import published
    from facellava.evaluation.runs import TABLE_10

    metrics = {column.metric for column in published.load(10).columns}
    assert {f"{TABLE_10[name]}.{task}" for task in ("expression", "action_units", "age", "all")} <= metrics
