"""The fault matrix: every row of faults.toml made, watched and judged; as a command, the table of docs/faults.md.

    python tests/faults/matrix.py            all rows, as Markdown (about half an hour)
    python tests/faults/matrix.py disk kill  rows whose name begins so
    python tests/faults/matrix.py --quick    rows of the quick tests; --job data: rows of one job

The command exits with 1 when a row did not end as it must.
"""

from __future__ import annotations

import argparse
import functools
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [
    str(HERE),
    *(str(HERE.parent / name) for name in ("instruct", "model", "runtime", "training", "weights")),
]

import pytest  # noqa: E402
from jobs import JOBS, Box, Ended, Job, fresh, volume  # noqa: E402
from ways import WAYS  # noqa: E402

from facellava import errors  # noqa: E402

EXIT_CODES: Mapping[str, int] = {
    kind.code: kind.exit_code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.FacellavaError)
}


@dataclass(frozen=True)
class Fault:
    """A row of faults.toml; see there."""

    name: str
    job: str
    way: str
    code: str
    says: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    next: bool = True
    slow: bool = False

    @property
    def expected(self) -> str:
        """In words."""
        first = {"": "goes through", "killed": "ends"}.get(
            self.code
        ) or f"{EXIT_CODES[self.code]} `{self.code}`, one line"
        return f"{first}; the next run gives the whole result" if self.next else first


class Seen(NamedTuple):
    """What came of a fault, in words, and what of it was wrong."""

    observed: str
    wrong: list[str]


def faults() -> list[Fault]:
    """All rows."""
    return [Fault(**row) for row in tomllib.loads((HERE / "faults.toml").read_text(encoding="utf-8"))["fault"]]


class Undisturbed(NamedTuple):
    """What a job gives when nothing happens to it, and how many bytes it writes."""

    result: dict[str, str]
    whole: int


@functools.cache
def prepared(name: str, folder: Path) -> Box:
    """A job's inputs, written once: their paths enter results."""
    return fresh(JOBS[name], folder / name.replace(" ", "-"))  # pip takes a blank for the end of a path


@functools.cache
def undisturbed(name: str, folder: Path) -> Undisturbed:
    """The job once, by itself."""
    box = prepared(name, folder)
    ended = box.run(JOBS[name].command(box))
    assert ended.code == 0, ended.errors
    return Undisturbed(JOBS[name].result(box), volume(box.place))


def judge(fault: Fault, folder: Path) -> Seen:
    """Make the fault, look, and start the job again without it."""
    job = JOBS[fault.job]
    needs_result = fault.next or fault.way in ("full_disk", "killed")
    normal = undisturbed(fault.job, folder) if needs_result else Undisturbed({}, 0)
    box = _box(fault, folder)
    calm = dict(box.env)
    try:
        ended = WAYS[fault.way](box, job, {**fault.options, "whole": normal.whole})
        box.env = calm  # the next run has the fault's proxy, index or clock no more
        observed, wrong = _first(fault, ended)
        if fault.next:
            more, worse = _next(job, box, normal)
            observed, wrong = f"{observed}; {more}", wrong + worse
    except subprocess.TimeoutExpired as error:
        return Seen("hangs", [f"hangs for {error.timeout} s"])
    return Seen(observed.replace(str(box.root), "…"), wrong)


def _box(fault: Fault, folder: Path) -> Box:
    """An empty place beside the job's inputs."""
    box = prepared(fault.job, folder)
    box = Box(box.root, dict(box.env))
    shutil.rmtree(box.place, ignore_errors=True)
    shutil.rmtree(box.root / "saved", ignore_errors=True)
    box.place.mkdir()
    return box


def _first(fault: Fault, ended: Ended) -> tuple[str, list[str]]:
    wrong = []
    if "Traceback" in ended.errors:
        wrong.append(f"a traceback: {ended.errors[-1500:]}")
    if fault.code == "killed":
        return ("killed" if ended.code == -9 else f"exit {ended.code}"), wrong
    code = EXIT_CODES[fault.code] if fault.code else 0
    if ended.code != code:
        wrong.append(f"exit {ended.code}, not {code}: {ended.errors[-1500:]}")
    if len(ended.lines) != bool(fault.code):
        wrong.append(f"{len(ended.lines)} lines of error: {ended.errors[-1500:]}")
    if fault.code and not re.search(fault.says, " ".join(ended.lines)):
        wrong.append(f"does not say {fault.says!r}: {ended.lines}")
    said = f": {ended.lines[0].removeprefix('facellava: error: ')}" if ended.lines else ""
    return f"exit {ended.code}{said}", wrong


def _next(job: Job, box: Box, normal: Undisturbed) -> tuple[str, list[str]]:
    again = box.run(job.command(box))
    wrong = [f"the next run: exit {again.code}: {again.errors[-1500:]}"] if again.code else []
    result = job.result(box)
    if different := sorted(k for k in result.keys() | normal.result.keys() if result.get(k) != normal.result.get(k)):
        wrong.append(f"the next run gives another result: {different}")
    if litter := job.litter(box):
        wrong.append(f"left behind: {litter}")
    return "next run: " + ("as it must be" if not wrong else "wrong"), wrong


def main(arguments: list[str]) -> int:
    """Print the table."""
    reading = argparse.ArgumentParser(description="The fault matrix as Markdown.")
    reading.add_argument("beginnings", nargs="*", help="only rows whose name begins so")
    reading.add_argument("--job", help="only rows of this job")
    reading.add_argument("--quick", action="store_true", help="only rows of the quick tests")
    given = reading.parse_args(arguments)
    chosen = [f for f in faults() if f.name.startswith(tuple(given.beginnings)) or not given.beginnings]
    chosen = [f for f in chosen if given.job in (None, f.job) and not (given.quick and f.slow)]
    print("| fault | what must come of it | what came of it |\n|---|---|---|")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for fault in chosen:
            try:
                seen = judge(fault, Path(folder))
            except pytest.skip.Exception as reason:
                seen = Seen(f"not tried here: {reason}", [])
            failed += bool(seen.wrong)
            mark = f" **WRONG: {'; '.join(seen.wrong)}**" if seen.wrong else ""
            cells = (fault.name, fault.expected, seen.observed + mark)
            print("|", " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells), "|", flush=True)
    print(f"\n{len(chosen)} faults, {failed} with another outcome than they must have.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
