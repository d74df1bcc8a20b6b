"""The page of measured speeds is what the kept results say, and results say nothing of where they were measured."""

from __future__ import annotations

import importlib
import json
import platform
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "speed.json", ROOT / "docs" / "performance.md"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def test_the_page_is_made_of_the_results(bench) -> None:
    table = bench("table")
    if not RESULTS.is_file():
        pytest.skip("no results are kept: run `make bench`")
    kept = PAGE.read_text(encoding="utf-8").split(table.BEGIN)[1].split(table.END)[0].strip()
    assert kept == table.markdown(json.loads(RESULTS.read_text(encoding="utf-8"))["parts"]).strip(), (
        "run `python benchmarks/table.py benchmarks/results/speed.json docs/performance.md`"
    )


def test_a_ratio_is_the_median_of_the_pairs_and_not_of_the_sides(bench) -> None:
    common = bench("common")
    ours = [common.Spent(1.0, 0.5), common.Spent(4.0, 0.5), common.Spent(2.0, 0.5)]
    peer = [common.Spent(3.0, 1.0), common.Spent(4.0, 2.0), common.Spent(8.0, 1.5)]
    found = common.row("x", "y", common.Turns(ours, peer), 3, "", 1)
    assert (found["ours_s"], found["peer_s"], found["ratio"], found["cpu_ratio"]) == (2.0, 4.0, 3.0, 3.0)
    assert found["pairs"] == [3.0, 1.0, 4.0] and found["met"] is True
    assert common.row("x", "y", common.Turns(ours, peer), 3.5, "", 1)["met"] is False
    assert common.alone("x", ours, 1, at_most=2.0)["met"] is False
    assert common.alone("x", ours, 1, at_most=2.1)["met"] is True


def test_children_count_as_processor_time(bench) -> None:
    import subprocess
    import sys

    busy = [sys.executable, "-c", "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"]
    found = bench("common").spent(lambda: subprocess.run(busy, check=True))
    assert found.cpu >= 0.2 and found.clock >= 0.2


def test_a_machine_is_described_without_its_name(bench) -> None:
    found = bench("machine").describe()
    assert found["cores"] and found["memory_gb"] > 0 and "numpy" in found["libraries"]
    assert platform.node() not in json.dumps(found)


def test_a_part_that_cannot_run_is_told_in_the_page(bench) -> None:
    part = {"rounds": 1, "machine": bench("machine").describe(), "missing": "needs ray: install it", "rows": []}
    assert bench("table").markdown({"scaling": part}).endswith("- scaling did not run: needs ray: install it\n")
