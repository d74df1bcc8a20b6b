"""Every fault of faults.toml ends as it must: one line and its own exit code, nothing lost, the next run goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from matrix import EXIT_CODES, Fault, faults, judge

FAULTS = faults()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "fault", [pytest.param(f, id=f.name, marks=[pytest.mark.slow] if f.slow else []) for f in FAULTS]
)
def test_a_fault(fault: Fault, folder: Path) -> None:
    assert judge(fault, folder).wrong == []


def test_rows_are_of_one_kind() -> None:
    assert len({f.name for f in FAULTS}) == len(FAULTS)
    assert {f.code for f in FAULTS} <= {*EXIT_CODES, "", "killed"}


def test_documentation_has_every_row() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
    assert [f.name for f in FAULTS if f"| {f.name} |" not in text] == []
    assert "WRONG" not in text
