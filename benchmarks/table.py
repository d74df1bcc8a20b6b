"""The page of a benchmark's results: ``python benchmarks/table.py benchmarks/results/speed.json docs/performance.md``.

What stands between the page's two marks is written anew from the JSON; the rest of the page stays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from facellava.files import write_atomic

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = "| measure | peer | ours | peer | ratio (pairs) | processor time | goal | threads | load | agreement |"


def amount(found: dict[str, Any], side: str) -> str:
    """A side's median: seconds, or megabytes."""
    if f"{side}_mb" in found:
        return f"{found[f'{side}_mb']:,} MB"
    if (seconds := found.get(f"{side}_s")) is None:
        return ""
    return f"{seconds * 1000:.3g} ms" if seconds < 0.1 else f"{seconds:.3g} s"


def goal(found: dict[str, Any]) -> str:
    """The goal and whether it is met."""
    if "goal" in found:
        text = f"{found['goal']:g}x"
    elif "at_most_s" in found:
        text = f"< {found['at_most_s']:g} s"
    else:
        return ""
    return f"{text} {'met' if found['met'] else 'missed'}"


def ratio(found: dict[str, Any]) -> str:
    """The median of the pairs, and their range."""
    if "ratio" not in found:
        return ""
    pairs = found["pairs"]
    return f"{found['ratio']:g}x ({min(pairs):g}-{max(pairs):g}, n = {len(pairs)})"


def line(found: dict[str, Any]) -> str:
    """One row for the terminal."""
    parts = [found["name"], amount(found, "ours"), amount(found, "peer"), ratio(found), goal(found)]
    return "; ".join(part for part in (*parts, found.get("accuracy", ""), found["peer"]) if part)


def markdown(parts: dict[str, Any]) -> str:
    """All parts as one table, below what they ran on."""
    lines = [about(machine) for machine in _unique([part["machine"] for part in parts.values()])]
    lines += ["", HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for part in parts.values():
        for found in part["rows"]:
            by_cpu = f"{found['cpu_ratio']:g}x" if "cpu_ratio" in found else ""
            cells = [found["name"], found["peer"], amount(found, "ours"), amount(found, "peer"), ratio(found), by_cpu]
            cells += [goal(found), found["threads"], found["load"], found.get("accuracy", "")]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    lines += ["", *(f"- {name} did not run: {part['missing']}" for name, part in parts.items() if part["missing"])]
    return "\n".join(lines).strip() + "\n"


def about(machine: dict[str, Any]) -> str:
    """A machine in one line."""
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    return (
        f"Measured on {machine['processor']}, {machine['cores']} cores ({', '.join(machine['instructions'])}), "
        f"{machine['memory_gb']:g} GB, {machine['system']}; Python {machine['python']}, {libraries}."
    )


def _unique(machines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [machine for n, machine in enumerate(machines) if machine not in machines[:n]]


def main() -> None:
    source, page = map(Path, sys.argv[1:])
    parts = json.loads(source.read_text(encoding="utf-8"))["parts"]
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    write_atomic(page, f"{before}{BEGIN}\n{markdown(parts)}{END}{after}")


if __name__ == "__main__":
    main()
