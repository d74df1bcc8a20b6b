"""Recipes: what is accepted, and that mistakes are told with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from facellava.errors import FileMissing, UsageError
from facellava.instruct import sources
from facellava.instruct.recipe import PACKAGE, PreprocessConfig, load_recipe
from facellava.settings import shipped

GOOD = """
name = "mine"
seed = 3

[[sources]]
name = "folder"
root = "faces"
rename = "left"
splits = ["train"]
options = { file = "labels.csv" }

[[sources]]
name = "folder"
root = "/other"

[preprocess]
policy = "all"

[annotate]
kind = "openai"
model = "m-1"
base_url = "http://127.0.0.1:1/v1"
price_input = 2

[filter]
enabled = false
"""


def recipe(folder: Path, text: str):
    path = folder / "r.toml"
    path.write_text(text)
    return load_recipe(str(path))


def test_everything_lands_where_it_belongs(tmp_path: Path) -> None:
    got = recipe(tmp_path, GOOD)
    assert (got.name, got.seed, got.version) == ("mine", 3, "1.0.0")
    assert [source.label for source in got.sources] == ["left", "folder"]
    assert got.sources[0].root == str((tmp_path / "faces").resolve())
    assert got.sources[1].root == "/other"
    assert got.sources[0].options == {"file": "labels.csv"}
    assert got.preprocess == PreprocessConfig(policy="all")
    assert got.annotate.is_service and got.annotate.price_input == 2.0
    assert got.rate is not None and not got.rate.is_service
    assert not got.filter.enabled


def test_hash_follows_content(tmp_path: Path) -> None:
    one = recipe(tmp_path, GOOD)
    assert one.hash == recipe(tmp_path, GOOD).hash
    assert one.hash != recipe(tmp_path, GOOD.replace("seed = 3", "seed = 4")).hash


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("sed = 3", "seed = 3", "unknown key 'sed'; known: .*seed"),
        ('policy = "strict"', 'policy = "all"', "policy is 'strict'; known: paper, all"),
        ('seed = "3"', "seed = 3", "seed is '3', but must be an int"),
        ('splits = "train"', 'splits = ["train"]', "splits must be a list"),
        ('nam = "mine"', 'name = "mine"', "unknown key 'nam'"),
        ('rename = "folder"', 'rename = "left"', "source folder occurs twice"),
        ('root = ""', 'root = "/other"', "source folder has no root: add --root folder=DIR"),
        ("enabled = fals", "enabled = false", "no valid TOML"),
        ('annotate = "evidence"', '[annotate]\nkind = "openai"', "annotate must be a table"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, wrong: str, right: str, said: str) -> None:
    text = GOOD.replace(right, wrong, 1) if right in GOOD else GOOD
    if wrong.startswith("annotate"):
        text = f"{wrong}\n" + GOOD.split("[annotate]")[0]
    with pytest.raises(UsageError, match=said):
        recipe(tmp_path, text)


def test_rating_can_be_left_out(tmp_path: Path) -> None:
    assert recipe(tmp_path, 'rate = "none"\n' + GOOD).rate is None


def test_unknown_recipe_names_the_shipped_ones() -> None:
    with pytest.raises(FileMissing, match="faceinstruct-1m"):
        load_recipe("nothing")


@pytest.mark.parametrize("name", shipped(PACKAGE))
def test_shipped_recipes_load_and_name_real_sources(name: str, tmp_path: Path) -> None:
    raw = load_recipe(name, _AnyRoot(tmp_path))
    for source in raw.sources:
        info = sources.get(source.name).INFO
        assert set(source.splits) <= set(info.splits)
        assert set(source.options) <= set(info.options), f"{source.name} has no such option"


def test_the_papers_recipe_has_its_thirteen_datasets_and_the_controls(tmp_path: Path) -> None:
    names = {source.name for source in load_recipe("faceinstruct-1m", _AnyRoot(tmp_path)).sources}
    assert names == {name for name, source in sources.all_sources().items() if source.INFO.in_paper}
    assert len(names) == 14


class _AnyRoot(dict):
    """One folder for every source that a recipe names."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def keys(self):
        return set()

    def get(self, _name, _default=None):
        return self.folder
