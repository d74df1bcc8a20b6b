"""The journal under kills, torn lines and a second process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from facellava.errors import BuildLocked
from facellava.instruct.journal import Journal, locked

WRITER = """
import sys
from pathlib import Path
from facellava.instruct.journal import Journal
with Journal(Path(sys.argv[1])) as journal:
    for n in range(10**9):
        journal.append(str(n), {"value": n * n})
        print(n, flush=True)
"""


def test_rows_come_back_and_later_ones_win(tmp_path: Path) -> None:
    with Journal(tmp_path / "a" / "j.jsonl") as journal:
        journal.append("x", {"value": 1})
        journal.append("y", {"value": "ü\n"})
        journal.append("x", {"value": 2})
    with Journal(tmp_path / "a" / "j.jsonl") as journal:
        assert {key: row["value"] for key, row in journal.rows.items()} == {"x": 2, "y": "ü\n"}


def test_torn_line_is_cut_off_and_writing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"key":"a","value":1}\n{"key":"b","va')
    with Journal(path) as journal:
        assert list(journal.rows) == ["a"]
        journal.append("c", {"value": 3})
    assert path.read_bytes() == b'{"key":"a","value":1}\n{"key":"c","value":3}\n'


@pytest.mark.parametrize("wanted", [1, 50, 300])
def test_nothing_that_was_reported_is_lost_by_sigkill(tmp_path: Path, wanted: int) -> None:
    path = tmp_path / "j.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout:
        reported = [int(next(writer.stdout)) for _ in range(wanted)]
        os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    with Journal(path) as journal:
        assert {str(n) for n in reported} <= journal.rows.keys()
        assert all(row["value"] == int(key) ** 2 for key, row in journal.rows.items())


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\nfrom pathlib import Path\nfrom facellava.instruct.journal import locked\n"
            "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)",
            tmp_path,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert next(holder.stdout) == "held\n"
        with pytest.raises(BuildLocked, match=rf"process {holder.pid}\b"), locked(tmp_path):
            pass
        holder.kill()
    holder.wait()
    with locked(tmp_path):
        assert (tmp_path / "build.lock").read_text() == f"{os.getpid()}\n"
