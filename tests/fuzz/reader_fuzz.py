"""Readers under damage that hypothesis draws.

python tests/fuzz/reader_fuzz.py 300    so many runs of each reader; the second table of docs/fuzzing.md
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from targets import World, targets

from facellava.errors import FacellavaError

HANG = 10.0
"""Seconds of processor time that a reader may take for one small file."""
TOKENS = (
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"99999999999999999999", b'"', b"'", b"[", b"]", b"{", b"}", b"[[",
    b",", b"\t", b"\n", b"\r\n", b"\0", b"=", b"#", b"\xff\xfe", b"\xef\xbb\xbf", b"../", b"\xed\xa0\x80",
    b"[" * 100_000,
)  # fmt: skip


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, float, float, bytes]:
    """What is done, where (shares of the file's length), and new bytes."""
    kind = draw(st.sampled_from(["cut", "put", "replace", "drop", "repeat", "flip", "zeros"]))
    new = draw(st.one_of(st.sampled_from(TOKENS), st.binary(min_size=1, max_size=8)))
    return kind, draw(st.floats(0, 1)), draw(st.floats(0, 1)), new


def damage(data: bytes, changes: list[tuple[str, float, float, bytes]]) -> bytes:
    """The data after all changes."""
    for kind, one, other, new in changes:
        start, end = sorted((int(one * len(data)), int(other * len(data))))
        if kind == "cut":
            data = data[:start]
        elif kind == "put":
            data = data[:start] + new + data[start:]
        elif kind == "replace":
            data = data[:start] + new + data[start + len(new) :]
        elif kind == "drop":
            data = data[:start] + data[end:]
        elif kind == "repeat":
            data = data[:end] + data[start:]
        elif kind == "zeros":
            data = data[:start] + bytes(end - start) + data[end:]
        elif start < len(data):
            data = data[:start] + bytes([data[start] ^ (1 << new[0] % 8)]) + data[start + 1 :]
    return data


def outcome(world: World, number: int, data: bytes) -> str:
    """``read``, or the code of the error; whatever else is raised goes through.

    Raises:
        AssertionError: the message is not one line, or the reader took longer than ``HANG``.
    """
    begun = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            world.read(number, data)
        found = "read"
    except FacellavaError as error:
        found, message = error.code, str(error).strip()
        if not message or "\n" in message:
            raise AssertionError(f"not one line: {message}") from error
    assert time.process_time() - begun < HANG, "hangs"
    return found


def fuzz(name: str, folder: Path, runs: int, count: Callable[[str], None]) -> None:
    """Give a reader so many damaged files; raises what the reader should not have raised, with the smallest file."""
    world = World.of(name, folder)
    assert world.files, f"{name} has nothing to damage"

    @settings(
        max_examples=runs,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(st.integers(0, len(world.files) - 1), st.lists(edits(), min_size=1, max_size=3))
    def run(number: int, changes: list[tuple[str, float, float, bytes]]) -> None:
        count(outcome(world, number, damage(world.good[number], changes)))

    run()


def distinct(error: BaseException) -> list[BaseException]:
    """What a group of exceptions holds; anything else is itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [one for part in error.exceptions for one in distinct(part)]


def main(runs: int, beginnings: list[str]) -> int:
    """Print the table and what was found."""
    logging.disable(logging.WARNING)  # damaged lines are told there; thousands of them are no news here
    print("| reader | runs | read | refused | with |\n|---|---|---|---|---|")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        for name in targets():
            if beginnings and not name.startswith(tuple(beginnings)):
                continue
            counts: Counter[str] = Counter()
            try:
                fuzz(name, Path(place) / "one", runs, lambda code, counts=counts: counts.update([code]))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                failed += 1
                for one in distinct(error):
                    last = traceback.extract_tb(one.__traceback__)[-1]
                    print(f"{name}: {type(one).__name__}: {one}"[:2000], file=sys.stderr)
                    print(f"  raised in {last.filename}:{last.lineno}", file=sys.stderr)
                    for note in getattr(one, "__notes__", ()):
                        print(f"  {note[:500]}", file=sys.stderr, flush=True)
            total, read = counts.total(), counts.pop("read", 0)
            codes = ", ".join(f"`{code}` {n}" for code, n in counts.most_common())
            print(f"| {name} | {total} | {read} | {total - read} | {codes} |", flush=True)
    print(f"\n{failed} readers raised what they must not.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
