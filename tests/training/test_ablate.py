"""Tables of ablations: the paper's numbers, recalls by hand, intervals, and a table that goes on."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peft")

from world import faces, write_recipe, write_world

from facellava.errors import FileMissing, UsageError
from facellava.training import ablate
from facellava.training.ablate import interval, load_table, recalls, row_recipe, run_table

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_table_6_is_the_papers() -> None:
    rows = {row.name: row for row in load_table("table6").rows}
    assert len(rows) == 11 and rows["baseline"].paper == (0.391, 0.479)
    assert rows["frgca_frlp"].paper == (0.424, 0.520) == max(row.paper for row in rows.values())
    assert [row.paper for row in rows.values()].count(()) == 1 and rows["append_face_parsing"].paper == ()
    assert [row.fusion for row in rows.values()] == list(rows)


def test_table_12_is_the_papers() -> None:
    rows = load_table("table12").rows
    assert len(rows) == 6 and [row.paper[0] for row in rows] == [0.298, 0.293, 0.318, 0.327, 0.415, 0.424]
    with pytest.raises(FileMissing, match="there is no table table7; shipped: table12, table6"):
        load_table("table7")


@pytest.mark.parametrize("row", load_table("table6").rows, ids=lambda row: row.name)
def test_every_row_is_a_recipe(row: ablate.RowConfig, tmp_path: Path) -> None:
    recipe = row_recipe(load_table("table6"), row, 2, tmp_path, tmp_path, {"stages.finetune.lr": "1e-4"})
    assert recipe.seed == 2 and recipe.stages[1].lr == 1e-4
    assert "language_model" not in recipe.stages[0].trains and "language_model" in recipe.stages[1].trains
    from facellava.model.config import TABLE_6

    kind = TABLE_6[row.fusion]
    assert recipe.model.fusion["kind"] == kind.kind and recipe.model.fusion["heads"] == 8
    assert ("frlp" in recipe.stages[1].trains) == kind.uses_landmarks
    assert ("frgca" in recipe.stages[1].trains) == (kind.kind != "none")


def test_recalls_by_hand() -> None:
    # fear 1 of 2, joy 3 of 4: UAR (.5 + .75) / 2, WAR 4 of 6
    truth = np.array(["fear", "fear", "joy", "joy", "joy", "joy"])
    guesses = np.array(["fear", "joy", "joy", "joy", "joy", "fear"])
    assert recalls(truth, guesses) == {"uar": 0.625, "war": pytest.approx(4 / 6), "n": 6.0}


def test_intervals_by_hand() -> None:
    mean, half = interval([0.1, 0.2, 0.3])  # deviation .1, t of two degrees of freedom 4.303
    assert mean == pytest.approx(0.2) and half == pytest.approx(4.303 * 0.1 / math.sqrt(3))
    assert interval([0.5])[0] == 0.5 and math.isnan(interval([0.5])[1])


def test_a_table_is_trained_tested_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_world(tmp_path / "data", [*faces(12), *faces(5, subset="test")])
    recipe = write_recipe(tmp_path, data)
    whole = load_table("table6")
    table = ablate.TableConfig(6, "t", str(recipe), "expression", "p", (whole.rows[6], whole.rows[8]))
    said: list[str] = []

    def run(**more: object) -> str:
        return run_table(table, {"": data}, data, tmp_path / "out", seeds=2, show=said.append, **more)  # type: ignore[arg-type]

    text = run()
    assert "| Landmarks, FRLP, FRGCA (the paper's model) | 0." in text and "| 0.424 | 0.520 |" in text and "±" in text
    assert (tmp_path / "out" / "table.md").read_text() == text and len(said) == 4
    monkeypatch.setattr(ablate, "train", None)  # nothing may be trained again
    assert run() == text and len(said) == 4
    other = write_world(tmp_path / "other", [*faces(12), *faces(7, subset="test")])
    with pytest.raises(TypeError, match="not callable"):  # scores of another test set are others
        run_table(table, {"": data}, other, tmp_path / "out", seeds=1, show=said.append)
    with pytest.raises(UsageError, match="there is no row x; rows: simple_frlp, frgca_frlp"):
        run(rows=["x"])
    with pytest.raises(UsageError, match=r"row simple_frlp has no data: give --data simple_frlp=DIR"):
        run_table(table, {"frgca_frlp": data}, data, tmp_path / "out")
