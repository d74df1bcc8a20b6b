"""The fenced blocks of README and docs, what shall become of each, and how they are run.

A comment right before a block says what is special about it; a block that can be run and has none is run:

    <!-- not run: WHY -->                 needs a GPU, data nobody here has, a key, hours
    <!-- run by: tests/.../test_x.py -->  another test runs it

``python tests/docs/docs_blocks.py docs/cli.md`` runs a page and writes what was printed into its console blocks.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

from facellava.notice import TEXT as NOTICE

ROOT = Path(__file__).resolve().parents[2]
SHELLS = ("sh", "bash", "console")
PROGRAMS = (
    "facellava",
    "python",
    "pip",
    "make",
    "curl",
    "git",
    "docker",
    "torchrun",
    "accelerate",
    "vllm",
    "pytest",
    "jupyter",
)
SECONDS = 900
_FENCE = re.compile(
    r"(?:^ *<!-- (?P<mark>not run|run by): (?P<why>[^>]+?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One fenced block.

    Attributes:
        page: below the repository's root. line: of its opening fence. start, end: place of its code in the page.
        mark, why: of the comment before it; empty without one.
    """

    page: str
    line: int
    language: str
    code: str
    mark: str
    why: str
    start: int
    end: int

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_shell(self) -> bool:
        """Something to type in a terminal, labelled or not."""
        return self.language in SHELLS or (not self.language and _typed(self.code))

    @property
    def typed(self) -> str:
        """What a user types: of a console block the commands alone."""
        return "\n".join(c.command for c in commands(self.code)) if self.language == "console" else self.code

    @property
    def can_run(self) -> bool:
        return self.is_shell or self.language in ("python", "toml")

    @property
    def runs_here(self) -> bool:
        return self.can_run and not self.mark


class Command(NamedTuple):
    """A line of a console block and what it printed."""

    command: str
    printed: str


def _typed(code: str) -> bool:
    return any(re.match(rf"\s*(\$ |({'|'.join(PROGRAMS)})\b)", line) for line in code.splitlines())


def pages() -> list[str]:
    """README and everything below docs, as names below the root."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def blocks_of(text: str, page: str = "") -> Iterator[Block]:
    """The fenced blocks of a page's text, in order."""
    for match in _FENCE.finditer(text):
        indent, code = match["indent"], match["code"]
        if indent:
            code = re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
        line = text.count("\n", 0, match.start("indent")) + 1
        yield Block(
            page, line, match["language"].strip(), code, match["mark"] or "", match["why"] or "", *match.span("code")
        )


def read(page: str) -> list[Block]:
    return list(blocks_of((ROOT / page).read_text(encoding="utf-8"), page))


def commands(code: str) -> list[Command]:
    """The parts of a console block: ``$ command``, lines that go on after a backslash, and the output below."""
    parts = re.split(r"^\$ ", code, flags=re.MULTILINE)
    assert not parts[0].strip(), f"a console block begins with a command, not with {parts[0]!r}"
    found = []
    for part in parts[1:]:
        match = re.match(r"((?:.*\\\n)*.*)\n?", part)
        assert match
        found.append(Command(match[1], part[match.end() :]))
    return found


def execute(language: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code of a block in a folder with ``facellava`` on the path and no network; output and errors together."""
    program = (
        [sys.executable, "-W", "default", "-c", code]
        if language == "python"
        else ["bash", "-euo", "pipefail", "-c", code]
    )
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FACELLAVA_OFFLINE": "1",
        "COLUMNS": "110",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        program,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )


def printed(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed, without the notice of the first run and what progress bars drew over."""
    text = re.sub(r"[^\n]*\r(?=[^\n])", "", done.stdout.replace(NOTICE + "\n", ""))
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def alike(documented: str, seen: str) -> float:
    """How far two outputs agree, 0 to 1, numbers and frames of tables aside: times, sizes and hashes differ."""
    return SequenceMatcher(None, _words(documented), _words(seen), autojunk=False).ratio()


def _words(text: str) -> Sequence[str]:
    return re.sub(r"[\d.]*\d|[^\w/.-]+", " ", text).split()


def rewritten(page: str, folder: Path) -> str:
    """The page with the output of its console blocks as it is now. SystemExit when a block fails."""
    text = (ROOT / page).read_text(encoding="utf-8")
    pieces, end = [], 0
    for block in blocks_of(text, page):
        if not block.runs_here or block.language == "toml":
            continue
        if block.language != "console":
            done = execute(block.language, block.code, folder)
            if done.returncode:
                sys.exit(f"{block.where}: {done.stdout}")
            continue
        fresh = "".join(f"$ {c.command}\n{printed(execute('sh', c.command, folder))}" for c in commands(block.code))
        pieces += [text[end : block.start], fresh]
        end = block.end
    return "".join(pieces) + text[end:]


if __name__ == "__main__":
    import tempfile

    from docs_world import furnish

    from facellava.files import write_atomic

    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as temporary:
            furnish(Path(temporary))
            write_atomic(ROOT / name, rewritten(name, Path(temporary)).encode())
