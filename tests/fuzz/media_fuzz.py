"""Every damaged file is read in another process: a crash, a hang or a lie there is seen here.

python tests/fuzz/media_fuzz.py    all files; the table of docs/fuzzing.md
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from damaged_media import Damaged, corpus, good  # noqa: E402

HANG = 10.0
"""Seconds of processor time for one file."""
PATIENCE = 120.0
"""Seconds without a word after which it is ended, on a machine that others use too."""
COMPLETE = {"jpg", "progressive.jpg", "png", "webp", "lossless.webp", "gif", "bmp", "tif", "jp2", "ppm", "avif", "heic"}
COMPLETE |= {"animated.gif", "animated.webp", "animated.png", "mp4", "mov", "webm", "mkv", "avi"}
"""Kinds whose files say how long they are: a cut one must be refused, or have lost nothing that is shown."""
CHECKED = {"png", "animated.png"}
"""Kinds with checksums over everything: a changed one must be refused, or show the same."""


class Read(NamedTuple):
    """What came of a file; ``outcome`` also ``crash`` or ``hang``. ``wrong``: what must not be, "" for nothing."""

    file: Damaged
    outcome: str
    wrong: str


class Reader:
    """The reading process, started again when it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def ask(self, path: Path, whole: Path) -> dict[str, object]:
        """What the process says of a file."""
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(f"{path}\t{whole}\n")
            process.stdin.flush()
            line = self._lines.get(timeout=PATIENCE)
        except BrokenPipeError:
            line = ""
        except queue.Empty:
            self.close()
            return {"outcome": "hang", "problem": f"nothing for {PATIENCE:.0f} s"}
        if line:
            return json.loads(line)
        code = process.wait()
        self.close()
        return {"outcome": "crash", "problem": f"the process ended with {code}"}

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [sys.executable, str(HERE / "read_one_by_one.py")]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._lines = queue.Queue()
            threading.Thread(target=self._listen, args=(self._process, self._lines), daemon=True).start()
        return self._process

    @staticmethod
    def _listen(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def read_all(files: Iterable[Damaged], folder: Path) -> Iterator[Read]:
    """Every file through the process."""
    for kind, data in good().items():
        (folder / f"good.{kind}").write_bytes(data)
    reader = Reader()
    try:
        for file in files:
            path = folder / file.name
            path.write_bytes(file.data)
            told = reader.ask(path, folder / f"good.{file.kind}")
            yield Read(file, str(told["outcome"]), _wrong(file, told))
            path.unlink()
    finally:
        reader.close()


def _wrong(file: Damaged, told: dict[str, object]) -> str:
    if told["problem"]:
        return str(told["problem"])
    if float(str(told["seconds"])) > HANG:
        return f"took {told['seconds']} s"
    if told["outcome"] == "other":
        if file.kind in CHECKED and not file.damage.startswith("splice"):
            return "shows something else although its checksums do not fit"
        if file.kind in COMPLETE and file.damage.startswith("cut"):
            return "was cut off and shows something else"
    return ""


def table(found: list[Read]) -> str:
    """Outcomes by kind, as Markdown."""
    names = sorted({read.outcome for read in found}, key=lambda name: (name not in ("same", "other"), name))
    lines = ["| kind | files | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for kind in (*good(), "all"):
        some = [read for read in found if kind in (read.file.kind, "all")]
        counts = Counter(read.outcome for read in some)
        lines.append(f"| {kind} | {len(some)} | " + " | ".join(str(counts[name]) for name in names) + " |")
    return "\n".join(lines)


def main() -> int:
    """Print the table and what must not be."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        found = list(read_all(corpus(), Path(folder)))
    print(table(found))
    wrong = [read for read in found if read.wrong]
    print(f"\n{len(found)} files, {len(wrong)} with an outcome that must not be.")
    for read in wrong:
        print(f"{read.file.name}: {read.outcome}: {read.wrong}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
