"""All speeds beside their peers, in one run and one table: ``make bench``.

Both sides take turns (A B A B ...), medians are reported with the median ratio of the pairs, threads are stated, and
agreement stands beside speed. Nothing here is asserted: the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import fusion
import preprocess
import scaling
import speed
from common import Row

import training

PARTS = {
    "speed": speed.rows,
    "preprocess": preprocess.rows,
    "fusion": fusion.rows,
    "scaling": scaling.rows,
    "training": training.rows,
}


def show(rows: list[Row]) -> None:
    """Print the table."""
    print(f"{'':62s} {'ours':>9s} {'peer':>9s} {'ratio':>7s} {'goal':>5s}")
    for r in rows:
        compared = f"{r['peer_s']:8.3f}s {r['ratio']:6.1f}x {r['goal']:4}x" if "ratio" in r else " " * 22
        print(f"{r['name']:62s} {r['ours_s']:8.3f}s {compared}  {r.get('accuracy', '')} [{r['peer']}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [r for name in args.parts or PARTS for r in PARTS[name](args.rounds)]
    print(
        f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores; one thread a side unless a row says otherwise"
    )
    show(rows)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
