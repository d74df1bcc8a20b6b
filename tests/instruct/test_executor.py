"""Engines: every item comes back once, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from facellava.instruct.executor import LocalEngine, RayEngine, ThreadEngine, WorkerDied


class Square:
    """Squares numbers; the process that is given 13 kills itself."""

    def __call__(self):
        return self.work

    @staticmethod
    def work(number: int) -> int:
        if number == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number


class Pid:
    def __call__(self):
        import cv2

        return lambda _: (os.getpid(), (os.environ.get("OMP_NUM_THREADS"), cv2.getNumThreads()))


@pytest.mark.parametrize("workers", [1, 2])
def test_local_engine_gives_every_item_once(workers: int) -> None:
    found = list(LocalEngine(workers).run(Square(), [n for n in range(40) if n != 13]))
    assert sorted(found) == [(n, n * n) for n in range(40) if n != 13]


def test_a_crash_costs_the_item_that_caused_it_and_no_other() -> None:
    found = dict(LocalEngine(2).run(Square(), range(30)))
    assert sorted(found) == list(range(30))
    assert isinstance(found.pop(13), WorkerDied)
    assert found == {n: n * n for n in range(30) if n != 13}


def test_workers_are_processes_of_one_thread() -> None:
    results = [result for _, result in LocalEngine(2).run(Pid(), range(12))]
    assert os.getpid() not in {pid for pid, _ in results}
    assert {threads for _, threads in results} == {("1", 1)}


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from facellava.instruct.executor import LocalEngine\n"
        "class Slow:\n"
        "    def __call__(self): return self.work\n"
        "    def work(self, _): print(os.getpid(), flush=True); time.sleep(600)\n"
        "if __name__ == '__main__': list(LocalEngine(2).run(Slow(), range(2)))\n"
    )
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        children = [int(next(parent.stdout)) for _ in range(2)]
        parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in children):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before it was read
        return False
    return state != "Z"


def test_threads_share_one_worker_and_run_at_once() -> None:
    made, meeting = [], threading.Barrier(4, timeout=20)

    def make():
        made.append(1)
        return lambda number: (meeting.wait(), number)[1]

    assert sorted(ThreadEngine(4).run(make, range(8))) == [(n, n) for n in range(8)]
    assert made == [1]


def test_threads_hand_over_what_is_done_before_they_fail() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    got = []

    def collect() -> None:
        for item, _ in ThreadEngine(2).run(lambda: work, range(100)):
            got.append(item)  # not a comprehension: it would lose what came before the error

    with pytest.raises(ValueError, match="three"):
        collect()
    assert {0, 1, 2} <= set(got) and 3 not in got and len(got) < 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_ray_gives_every_item_once_and_survives_a_crash() -> None:
    pytest.importorskip("ray", reason="needs the ray extra")
    import ray

    try:
        found = dict(RayEngine(2).run(Square(), range(30)))
        assert isinstance(found.pop(13), WorkerDied), "the one that kills its process"
        assert found == {n: n * n for n in range(30) if n != 13}
        assert list(RayEngine(2).run(Square(), [])) == []
    finally:
        ray.shutdown()
