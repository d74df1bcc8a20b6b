"""``--model`` of models of ours: which, and at which precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from facellava.errors import FileMissing, UsageError
from facellava.evaluation.respondents.base import read_config


@pytest.mark.parametrize(
    ("text", "name", "title", "precision"),
    [
        ("default", "facellava-default", "facellava default", ""),
        ("default:fp32", "facellava-default-fp32", "facellava default, fp32", "fp32"),
        ("default:int8", "facellava-default-int8", "facellava default, int8", "int8"),
    ],
)
def test_the_default(text: str, name: str, title: str, precision: str) -> None:
    found = read_config(text)
    assert (found.name, found.heading, found.precision) == (name, title, precision)
    assert (found.kind, found.model) == ("own", "default")


@pytest.mark.parametrize("precision", ["", "fp32", "bf16", "int8", "int4"])
def test_a_folder(tmp_path: Path, precision: str) -> None:
    folder = tmp_path / "run:1"  # a colon of its own
    folder.mkdir()
    (folder / "recipe.json").write_text('{"name": "my model"}')
    found = read_config(f"{folder}:{precision}" if precision else str(folder))
    assert (found.kind, found.model, found.precision) == ("own", str(folder), precision)
    assert found.name == ("my-model" if not precision else f"my-model-{precision}")


def test_other_texts_are_no_precision(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_config(f"{tmp_path}:int3")
    with pytest.raises(FileMissing):
        read_config("nowhere:int8")
    assert read_config("answers:int8").kind == "answers"


def test_a_preset_may_name_a_precision(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(f'name = "one"\nkind = "own"\nmodel = "{tmp_path}"\nprecision = "int4"\n')
    assert read_config(str(path)).precision == "int4"
    path.write_text('name = "one"\nkind = "own"\nprecision = "int5"\n')
    with pytest.raises(UsageError, match="precision"):
        read_config(str(path))
