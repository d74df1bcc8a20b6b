"""A newcomer's path, timed: ``python benchmarks/newcomer.py [--faces DIR] [--repository URL]``.

Runs the command and Python blocks of docs/start.md in order, in one shell, in an empty folder, with caches of its own
(weights and pip's), and prints the seconds of each section as a Markdown table: by the clock, and of processor time,
which other work on the machine lengthens less. What is timed is thus what is written.
Blocks that name ``FACES`` run only when ``--faces`` says where the open faces are.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
END = "newcomer-block-ended"


class Step(NamedTuple):
    """A block of the page and the section that it is in."""

    section: str
    language: str
    code: str


def steps(text: str) -> Iterator[Step]:
    """The blocks that somebody would type, in order."""
    section = ""
    for match in re.finditer(r"^## ([^\n]+)$|^```(sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        section = match[1] or section
        if match[2]:
            yield Step(section, match[2], match[3])


class Shell:
    """One bash that keeps its folder and environment from block to block."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "-e"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

        self._cpu = 0.0

    def run(self, step: Step) -> tuple[float, float]:
        """Seconds that the block took, and of processor time. SystemExit when one of its commands fails."""
        assert self._bash.stdin and self._bash.stdout
        code = f"python - <<'PYTHON'\n{step.code}PYTHON\n" if step.language == "python" else step.code
        start = time.perf_counter()
        self._bash.stdin.write(f"{code}\necho\necho {END}\ntimes\n")  # what was printed last may lack its newline
        self._bash.stdin.flush()
        for line in self._bash.stdout:
            if line.strip() == END:
                return time.perf_counter() - start, self._processor()
            sys.stderr.write(line)
        sys.exit(f"a command failed in the section '{step.section}':\n{step.code}")

    def _processor(self) -> float:
        """Seconds of processor time of finished children since last asked: the second line of bash's ``times``."""
        assert self._bash.stdout
        self._bash.stdout.readline()
        spent = [part.rstrip("s").split("m") for part in self._bash.stdout.readline().split()]
        before, self._cpu = self._cpu, sum(60 * int(minutes) + float(seconds) for minutes, seconds in spent)
        return self._cpu - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repository", default=str(ROOT), help="what is cloned; this checkout's last commit by default"
    )
    parser.add_argument("--faces", type=Path, help="the open faces")
    args = parser.parse_args()
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="newcomer-") as name:
        own = {"FACELLAVA_CACHE": f"{name}/weights", "PIP_CACHE_DIR": f"{name}/pip", "REPOSITORY": args.repository}
        shell, taken = Shell(Path(name), {**os.environ, **own}), {}
        for step in steps(text):
            if "FACES" in step.code and args.faces is None:
                continue
            code = step.code.replace("FACES", str(args.faces and args.faces.resolve()))
            clock, cpu = shell.run(step._replace(code=code))
            before = taken.get(step.section, (0.0, 0.0))
            taken[step.section] = before[0] + clock, before[1] + cpu
            print(f"{step.section}: {clock:.0f} s, processor {cpu:.0f} s", file=sys.stderr)
    print("| section | seconds | processor |\n|---|---|---|")
    for section, (clock, cpu) in taken.items():
        print(f"| {section} | {clock:.0f} | {cpu:.0f} |")


if __name__ == "__main__":
    main()
