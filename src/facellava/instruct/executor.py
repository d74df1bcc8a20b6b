"""Engines that run a stage: processes on this machine, threads for calls over the network, or Ray Data.

An engine gives results in any order. Nothing that a build writes at its end depends on that order.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from typing import Any, Protocol, TypeVar, cast

from facellava.errors import MissingExtra

Item = TypeVar("Item")
Result = TypeVar("Result")
Make = Callable[[], Callable[[Item], Result]]
"""A picklable maker of a worker; the worker is made once per process and may hold networks."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
AHEAD = 4
"""Items handed out per worker before the first is back: enough to keep it busy, little to lose."""


class WorkerDied(RuntimeError):
    """The process that worked on an item ended without an answer (a crash in native code, no memory)."""


class Engine(Protocol):
    """Runs a worker over items."""

    workers: int

    def run(self, make: Make[Item, Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result | WorkerDied]]:
        """(item, result) for every item, in any order; an item whose process died gives ``WorkerDied``."""
        ...


_worker: Callable[[Any], Any] | None = None


def _start(make: Make[Any, Any]) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = make()


def _end_with_parent() -> None:
    """A worker of a build that was killed would otherwise wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _work(item: Any) -> Any:
    assert _worker is not None
    return _worker(item)


class LocalEngine:
    """Processes on this machine, one thread each. With one worker everything runs in this process."""

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))

    def run(self, make: Make[Item, Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result | WorkerDied]]:
        """See ``Engine``. An item that was at work when a process died is tried once more, alone."""
        if self.workers == 1:
            worker = make()
            yield from ((item, worker(item)) for item in items)
            return
        queue, suspects = iter(items), list[Item]()
        while True:
            yield from self._until_broken(make, queue, suspects)
            if not suspects:
                return
            yield from self._alone(make, suspects)
            suspects.clear()

    def _until_broken(
        self, make: Make[Item, Result], queue: Iterator[Item], suspects: list[Item]
    ) -> Iterator[tuple[Item, Result]]:
        pool, pending = self._pool(make, self.workers), dict[Future[Result], Item]()
        try:
            for item in queue:
                try:
                    future = _submit(pool, item)
                except BrokenProcessPool:
                    suspects.append(item)
                    raise
                pending[future] = item
                if len(pending) >= AHEAD * self.workers:
                    yield from _finished(pending)
            while pending:
                yield from _finished(pending)
        except BrokenProcessPool:
            suspects.extend(pending.values())
        finally:
            pool.shutdown(cancel_futures=True)

    def _alone(self, make: Make[Item, Result], items: list[Item]) -> Iterator[tuple[Item, Result | WorkerDied]]:
        for item in items:
            with self._pool(make, 1) as pool:
                try:
                    yield item, _submit(pool, item).result()
                except BrokenProcessPool:
                    yield item, WorkerDied("the process that worked on it ended without an answer")

    def _pool(self, make: Make[Item, Result], workers: int) -> ProcessPoolExecutor:
        # spawn: a forked process would inherit the threads' locks of the networks
        for name in THREAD_VARIABLES:
            os.environ.setdefault(name, "1")
        return ProcessPoolExecutor(workers, get_context("spawn"), _start, (make,))


def _submit(pool: Executor, item: Any) -> Future[Any]:
    return pool.submit(_work, item)


def _finished(pending: dict[Future[Result], Item]) -> Iterator[tuple[Item, Result]]:
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        # the item stays pending until its result is known, so that a broken pool finds it there
        result = future.result()
        yield pending.pop(future), result


class ThreadEngine:
    """Threads of this process, for work that waits on a service. The worker is made once and shared."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, make: Make[Item, Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result | WorkerDied]]:
        """See ``Engine``. The first exception ends the run once what is under way has been handed over."""
        worker, queue = make(), iter(items)
        with ThreadPoolExecutor(self.workers) as pool:
            pending = {pool.submit(worker, item): item for item in islice(queue, self.workers)}
            failed: BaseException | None = None
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    item = pending.pop(future)
                    if (error := future.exception()) is not None:
                        failed = failed or error
                        continue
                    yield item, future.result()
                if failed is None:
                    room = self.workers - len(pending)
                    pending |= {pool.submit(worker, item): item for item in islice(queue, room)}
            if failed is not None:
                raise failed


class RayEngine:
    """Ray Data: on a local cluster of ``workers``, or on the cluster that ``RAY_ADDRESS`` names."""

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))

    def run(self, make: Make[Item, Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result | WorkerDied]]:
        """See ``Engine``. What was at work, or waiting for the same worker, when one died is tried again: first in
        blocks of one item, at last each item with nothing beside it.

        Raises:
            MissingExtra: Ray is not installed.
        """
        listed = list(items)
        missing = set(range(len(listed)))
        for alone in (False, True):
            for number, result in self._pass(make, listed, sorted(missing), alone=alone):
                missing.discard(number)
                yield listed[number], result
        for number in sorted(missing):
            died = WorkerDied("the worker that was given nothing else ended without an answer; Ray's log says how")
            yield listed[number], next((r for _, r in self._pass(make, listed, [number], alone=True)), died)

    def _pass(
        self, make: Make[Item, Result], listed: list[Item], numbers: list[int], *, alone: bool
    ) -> Iterator[tuple[int, Result]]:
        if not numbers:
            return
        ray = self.warm()
        # small blocks: at the end all workers but one wait for the last of them
        blocks = len(numbers) if alone else min(len(numbers), max(self.workers * 16, len(numbers) // 16))
        # pickled by us: Ray would try to make columns of the items' fields
        rows = [{"number": n, "item": pickle.dumps(listed[n])} for n in numbers]
        data = ray.data.from_items(rows, override_num_blocks=blocks)
        # Ray sets the levels of its loggers when the first data set is made. A crash is told by its WorkerDied
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            # Ray announces the end of these two arguments for 2.64 without naming others; pyproject.toml stays below
            warnings.simplefilter("ignore")
            mapped = data.map(
                cast(Any, _RayWorker),
                fn_constructor_args=(make,),
                compute=ray.data.ActorPoolStrategy(size=min(self.workers, blocks)),
                num_cpus=1,
                # a dead worker is replaced; its block is given up (see _connect) and comes again in the second pass
                max_restarts=-1,
                max_task_retries=0,
            )
        for row in mapped.iter_rows():
            yield row["number"], row["result"]

    def warm(self) -> Any:
        """Start or join the cluster, if that has not happened yet; Ray's module."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        try:
            import ray
        except ImportError as error:
            raise MissingExtra("ray", "--engine ray") from error
        if not ray.is_initialized():
            self._connect(ray)
        return ray

    def _connect(self, ray: Any) -> None:
        variables: dict[str, str] = dict.fromkeys(THREAD_VARIABLES, "1")
        options: dict[str, Any] = {}
        if "RAY_ADDRESS" not in os.environ:
            # on this machine workers see what this process sees, a script's own modules included
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
            # one core more than workers: Ray Data's own reading tasks need a place
            options = {"num_cpus": self.workers + 1, "include_dashboard": False}
        ray.init(**options, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level="ERROR")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.use_ray_tqdm = False
        context.max_errored_blocks = -1


class _RayWorker:
    def __init__(self, make: Make[Any, Any]) -> None:
        self._work = make()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"number": row["number"], "result": self._work(pickle.loads(row["item"]))}
