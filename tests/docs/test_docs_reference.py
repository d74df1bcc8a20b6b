"""The parts of pages that the code knows, and the pages that name all of something, are up to date."""

from __future__ import annotations

import re
import runpy
from itertools import takewhile
from pathlib import Path

import pytest
import typer.main
from docs_blocks import ROOT, pages

from facellava.cli import app

DOCS = ROOT / "docs"


def test_generated_parts_are_those_of_the_code() -> None:
    filled = runpy.run_path(str(DOCS / "make_reference.py"))["filled"]
    old = [page for page in pages() if filled(text := (ROOT / page).read_text(encoding="utf-8")) != text]
    assert not old, "run: python docs/make_reference.py"


def test_every_public_name_is_documented() -> None:
    import facellava

    text = (DOCS / "python.md").read_text(encoding="utf-8")
    models = {name for name in facellava.__all__ if name.startswith("FaceLlava")}
    undocumented = {name for name in facellava.__all__ if f"facellava.{name}\n" not in text}
    assert undocumented == models | {"__version__"}


def test_every_verb_has_a_section() -> None:
    verbs = set(getattr(typer.main.get_command(app), "commands", {}))
    sections = set(re.findall(r"^## (\w+)$", (DOCS / "cli.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert sections == verbs


@pytest.mark.parametrize("name", ["README.md", *(page for page in pages() if page.startswith("docs/"))])
def test_relative_links_are_files(name: str) -> None:
    """As a code host follows them; the site's links are another test."""
    page = ROOT / name
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        assert re.match(r"https?:", target) or (page.parent / target).exists(), f"{name}: {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def test_the_readme_states_the_numbers_of_the_model_card() -> None:
    def table(path: Path) -> list[str]:
        lines = path.read_text(encoding="utf-8").splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("| measure (n)"))
        return list(takewhile(lambda line: line.startswith("|"), lines[start:]))

    assert table(ROOT / "README.md") == table(ROOT / "docs" / "model-card.md")
