"""All speeds beside their peers, one table: ``make bench``; some parts: ``python benchmarks/run.py generation memory``.

Both sides take turns (A B A B ...); medians are reported with the ratio of every pair and the median of these, threads
and load are stated, and agreement stands beside speed. Nothing here is asserted: the machine may be busy. Parts write
their rows into the JSON file one by one and leave the others' as they are; ``table.py`` makes the page of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from pathlib import Path
from typing import Any

from common import Row
from machine import describe
from table import line

from facellava.errors import FacellavaError
from facellava.files import write_atomic

PARTS = (
    "preprocess",
    "landmarks",
    "fusion",
    "generation",
    "memory",
    "tokens",
    "start",
    "training",
    "scaling",
    "growth",
)
"""Modules here with ``rows(rounds)``. What each needs besides the package (extras, a connection) it says itself."""

WITH_FACES = ("landmarks",)
"""Those that measure an error on the open faces."""


def run(name: str, rounds: int, faces: Path | None) -> tuple[list[Row], str]:
    """The rows of a part, or why there are none."""
    try:
        rows = importlib.import_module(name).rows
        return rows(rounds, faces) if name in WITH_FACES else rows(rounds), ""
    except ModuleNotFoundError as error:
        return [], f"needs {error.name}: pip install -r requirements-dev.txt"
    except FacellavaError as error:
        return [], str(error)


def read(path: Path) -> dict[str, Any]:
    """The parts that a file holds; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8"))["parts"] if path.is_file() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where results are kept")
    parser.add_argument("--faces", type=Path, help="the folder of open faces, for landmarks' error")
    args = parser.parse_args()
    parts = read(args.json) if args.json else {}
    for name in args.parts or PARTS:
        before = os.getloadavg()[0]
        rows, reason = run(name, args.rounds, args.faces)
        print(f"{name}: {reason or f'load average {before:.1f} before, {os.getloadavg()[0]:.1f} after'}", flush=True)
        for found in rows:
            print("  " + line(found), flush=True)
        parts[name] = {"rounds": args.rounds, "machine": describe(), "missing": reason, "rows": rows}
        if args.json:
            ordered = {known: parts[known] for known in PARTS if known in parts}
            write_atomic(args.json, json.dumps({"parts": ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main()
