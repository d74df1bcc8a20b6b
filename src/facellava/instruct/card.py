"""The dataset card: ``README.md`` with the front matter of the Hugging Face hub."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from facellava.errors import MissingExtra
from facellava.instruct import sources, statistics
from facellava.instruct.recipe import Recipe

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))


@dataclass(frozen=True)
class SourceFacts:
    """What people must know about one source of a build; the recipe's word on the licence goes before the reader's.

    Attributes:
        name: in this build. reader: module that read it. paper: Table 11's counts, None where it is not in it.
        redistribute: whether its pixels are in the dataset.
    """

    name: str
    reader: str
    title: str
    licence: str
    redistribute: bool
    obtain: str
    citation: str
    paper: tuple[int, int, int] | None


def source_facts(recipe: Recipe) -> list[SourceFacts]:
    """The sources of a recipe, in its order."""
    found = []
    for config in recipe.sources:
        info = sources.get(config.name).INFO
        found.append(
            SourceFacts(
                config.label,
                info.name,
                info.title,
                str(config.options.get("licence") or info.licence),
                bool(config.options.get("redistribute", info.redistribute)),
                info.obtain,
                info.citation,
                info.counts,
            )
        )
    return found


@cache
def uses() -> Mapping[str, Any]:
    """The texts about use, limits and people; see ``templates/uses.toml``."""
    return tomllib.loads((resources.files("facellava.instruct") / "templates" / "uses.toml").read_text("utf-8"))


def size_category(rows: int) -> str:
    """The hub's name for a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "10M<n<100M")


def cell(text: str) -> str:
    """`text` for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def maker(by: Mapping[str, Any]) -> str:
    """One line about who described or rated: ``age: evidence, no model (1,000)``."""
    model = f"model `{by['model']}`" if by["model"] else "no model"
    prompt = f", prompt `{by['prompt'][:16]}`" if by["prompt"] else ""
    return f"{by['task']}: {by['by']}, {model}{prompt} ({by['n']:,})"


def template(name: str, *, escape: bool) -> Any:
    """A template of the package with our filters. Raises MissingExtra without ``jinja2``."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("data", "cards and reports") from error
    environment = jinja2.Environment(autoescape=escape, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters.update(cell=cell, maker=maker)
    return environment.from_string((resources.files("facellava.instruct") / "templates" / name).read_text("utf-8"))


def dataset_card(found: Mapping[str, Any], recipe: Recipe, notes: Sequence[str] = ()) -> str:
    """The card's text.

    Args:
        found: of ``statistics.summarize``. notes: of the test set's selection.
    """
    rows = sum(found["rows"].values())
    return template("card.md.j2", escape=False).render(
        found=found,
        recipe=recipe,
        notes=notes,
        rows=f"{rows:,}",
        size=size_category(rows),
        columns=statistics.COLUMNS,
        total=statistics.total(dict(found)),
        uses=uses(),
        sources=source_facts(recipe),
    )
