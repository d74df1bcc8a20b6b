"""Card, Croissant and report of a build: valid, complete, self-contained, and safe against hostile text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from rows_world import make_row, stored

from facellava.instruct import card, croissant, report, statistics
from facellava.instruct.dataset import write_dataset
from facellava.instruct.recipe import Recipe, load_recipe
from facellava.instruct.records import Instruction, Rejection

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

HOSTILE = "</script><script>alert(1)</script> | <img src=x onerror=alert(2)> $x$ {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "recipe.toml").write_text(
        'name = "small"\ndescription = "A few faces."\n'
        '[[sources]]\nname = "folder"\nrename = "mine"\nroot = "."\n'
        'options = { redistribute = true, licence = "CC0 <b>bold</b>" }\n'
        '[[sources]]\nname = "celeba"\nroot = "."\n[annotate]\nkind = "evidence"\n[rate]\nkind = "rules"\n'
    )
    return load_recipe(str(folder / "recipe.toml"))


@pytest.fixture(scope="module")
def built(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with Parquet, card, Croissant and report, and the statistics."""
    folder = tmp_path_factory.mktemp("built")
    rows = [
        *(make_row(f"m{n}", source="mine", subject=f"p{n}", kind="video") for n in range(6)),
        make_row("fear", source="mine", label="fear", subset="test"),
        make_row("k", "attributes", ("Young",), source="celeba", description=f"Young. {HOSTILE}"),
        make_row("u", "age", 31, source="mine", overall=None, description="31 years old."),
        make_row("h", source="mine", description=HOSTILE, meta={"note": HOSTILE}),
    ]
    lost = [Rejection(f"mine/{HOSTILE}", "mine", "age", "preprocess", "no_face", HOSTILE)]
    fill(folder, rows, lost, recipe)
    read = [row.sample for row in rows]
    return folder, statistics.summarize(read, rows, lost)


def fill(folder: Path, rows: list[Instruction], lost: list[Rejection], recipe: Recipe) -> None:
    store = stored(rows, folder / "clips")
    found = statistics.summarize([row.sample for row in rows], rows, lost)

    def shared(sample) -> bool:
        return sample.source == "mine"

    write_dataset(folder, rows, store, pixels=shared)
    (folder / "README.md").write_text(card.dataset_card(found, recipe, ["age: 0 of 500 test samples"]))
    croissant.write_croissant(folder, found, recipe)
    report.write_report(folder / "report.html", found, rows, lost, store, shared, recipe)


def test_croissant_is_valid_and_its_records_are_read(built: tuple[Path, dict[str, Any]]) -> None:
    import mlcroissant

    folder, _ = built
    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))  # raises on anything that the format forbids
    assert not dataset.metadata.ctx.issues.errors
    found = {}
    for record in dataset.records("instructions"):
        found[record["instructions/id"].decode()] = record
    assert len(found) == 10
    assert found["mine/fear"]["instructions/subset"] == b"test" and found["mine/u"]["instructions/years"] == 31
    assert found["mine/m0"]["instructions/subset"] == b"train"


def test_croissant_answers_the_responsible_ai_questions(built: tuple[Path, dict[str, Any]]) -> None:
    record = json.loads((built[0] / "croissant.json").read_text())
    assert "http://mlcommons.org/croissant/RAI/1.0" in record["conformsTo"]
    for name in (
        "dataCollection",
        "dataCollectionMissingData",
        "dataPreprocessingProtocol",
        "dataAnnotationProtocol",
        "machineAnnotationTools",
        "dataBiases",
        "dataLimitations",
        "dataUseCases",
        "dataSocialImpact",
        "personalSensitiveInformation",
    ):
        assert record[f"rai:{name}"], name
    assert any(line.startswith("Prohibited:") for line in record["rai:dataUseCases"])
    assert "1 samples were dropped" in record["rai:dataCollectionMissingData"]
    assert any("Table" in line or "rating of 6" in line for line in record["rai:dataPreprocessingProtocol"])
    digests = {f["name"]: f["sha256"] for f in record["distribution"] if "sha256" in f}
    assert set(digests) == {"train-00000-of-00001.parquet", "test-00000-of-00001.parquet"}


def test_card_states_licences_use_limits_and_counts(built: tuple[Path, dict[str, Any]]) -> None:
    text = (built[0] / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["size_categories"] == ["n<1K"] and front["language"] == ["en"] and "expression" in front["tags"]
    assert {c["split"] for c in front["configs"][0]["data_files"]} == {"train", "test"}
    assert "10 rows: 1 test, 9 train" in text
    assert "CC0" in text and "<b>bold" not in text and "licence" in text.lower()
    for heading in ("Intended", "Out of scope", "Prohibited", "limits"):
        assert heading.lower() in text.lower(), heading
    assert "1 at preprocess: `no_face`" in text and "age: 0 of 500 test samples" in text


class Page(HTMLParser):
    """Everything that a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.loads, self.tags, self.handlers = list[str](), list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on"):
                self.handlers.append(name)
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.loads.append(value or "")


def test_report_is_one_file_that_loads_and_runs_nothing(built: tuple[Path, dict[str, Any]]) -> None:
    text = (built[0] / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.loads and all(load.startswith(("data:image/", "#")) for load in page.loads)
    assert "script" not in page.tags and not page.handlers and "img" in page.tags
    assert not re.search(r"@import|url\((?!['\"]?data:)", text)
    assert "&lt;script&gt;alert(1)" in text and "49 " not in text.split("{{ 7 * 7 }}")[0][-3:]
    assert "{{ 7 * 7 }}" in text, "shown, not run"


def test_report_shows_only_the_pictures_that_may_be_shown(built: tuple[Path, dict[str, Any]]) -> None:
    text = (built[0] / "report.html").read_text()
    shown = set(re.findall(r'alt="(?:blurred )?face of sample ([^"]+)"', text))
    assert "celeba/k" not in shown and "mine/u" in shown and len(shown & {f"mine/m{n}" for n in range(6)}) >= 3
    assert "celeba/k" in text, "its words are"


def test_same_bytes_again(built: tuple[Path, dict[str, Any]], recipe: Recipe, tmp_path: Path) -> None:
    rows = [make_row("a", source="mine"), make_row("b", "age", 20, source="mine")]
    for name in ("one", "two"):
        fill(tmp_path / name, rows, [], recipe)
    for name in ("README.md", "croissant.json", "report.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
