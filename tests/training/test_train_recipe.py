"""Recipes: what they may hold, what is changed from outside, and that a bad one says so in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers")

from world import write_recipe

from facellava.errors import FileMissing, UsageError
from facellava.settings import shipped
from facellava.training.recipe import PACKAGE, load_recipe


def test_shipped_recipes_are_whole() -> None:
    assert {"paper-7b", "gpu-24gb", "default", "default-continue", "smoke", "table6"} <= set(shipped(PACKAGE))
    for name in shipped(PACKAGE):
        assert load_recipe(name).stages


def test_the_papers_run() -> None:
    """Section 4.3 and appendix G."""
    recipe = load_recipe("paper-7b")
    pretrain, finetune = recipe.stages
    assert pretrain.trains == ("frlp", "frgca") and pretrain.lr == 1e-4
    assert set(finetune.trains) == {"frlp", "frgca", "projector", "language_model"} and finetune.lr == 2e-5
    assert all(
        (s.epochs, s.conversations, s.weight_decay, s.context, s.warmup) == (1, 0, 0, 3072, 0.03) for s in recipe.stages
    )
    assert recipe.lora is None, "the paper trains all of the language model"


def test_changes_from_outside(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, tmp_path)
    recipe = load_recipe(
        str(path), {"stages.finetune.lr": "3e-4", "data.limit": "5", "stages.0.batch": "8", "name": "x y"}
    )
    assert (recipe.stages[1].lr, recipe.data.limit, recipe.stages[0].batch, recipe.name) == (3e-4, 5, 8, "x y")
    with pytest.raises(UsageError, match="there is no 'middle' among pretrain, finetune"):
        load_recipe(str(path), {"stages.middle.lr": "1"})
    with pytest.raises(UsageError, match="'name' is a value, not a table"):
        load_recipe(str(path), {"name.first": "1"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr = 1e-3", 'lr = "fast"', "must be a float"),
        ("lr = 1e-3", "lr = 0.0", "lr and epochs must be positive"),
        ("log_steps", "log_step", r"watch: unknown key 'log_step'; known: keep, log_steps"),
        ('["frlp", "frgca"]', "[]", "stage 'pretrain' trains nothing: name some of"),
        ('["frlp", "frgca"]', '["frlp", "head"]', "stage 'pretrain' cannot train 'head'"),
        ("batch = 4\nmicro_batch = 2", "batch = 5\nmicro_batch = 2", "batch=5 is no multiple of micro_batch=2"),
        ('name = "finetune"', 'name = "pretrain"', "stage 'pretrain' occurs twice"),
        ('name = "finetune"', 'name = "../x"', "use letters, digits"),
        ("paths = [", "paths = [] # [", "data.paths is empty"),
        ("[watch]", '[setting]\nkind = "zero-shot"\n[watch]', "needs sources"),
        ("[watch]", "[watch", "is no valid TOML"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_recipe(tmp_path, tmp_path, (old, new))
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe(str(path))
    assert "\n" not in str(caught.value).strip() or "TOML" in message


def test_a_recipe_that_is_not_there() -> None:
    with pytest.raises(FileMissing, match="is no file and not among the shipped recipes: default"):
        load_recipe("defualt")


def test_the_hash_is_of_what_decides_the_weights(tmp_path: Path) -> None:
    path = str(write_recipe(tmp_path, tmp_path))
    plain = load_recipe(path).hash
    assert load_recipe(path, {"watch.log_steps": "7", "data.workers": "2", "data.cache": "c"}).hash == plain
    assert load_recipe(path, {"seed": "1"}).hash != plain != load_recipe(path, {"stages.pretrain.lr": "1e-2"}).hash
