"""Damaged files: a picture of some in every run, all of them where time is (``slow``)."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from damaged_media import Damaged, corpus, good
from media_fuzz import Reader, read_all
from reader_fuzz import damage, fuzz
from targets import targets


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Damaged lines are told in the log; here that is the rule."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def _wrong(files: list[Damaged], folder: Path) -> list[str]:
    return [f"{read.file.name}: {read.outcome}: {read.wrong}" for read in read_all(files, folder) if read.wrong]


def test_some_damaged_media(tmp_path: Path) -> None:
    """One damage of each sort for a picture, an animation and a video."""
    kinds, damages = (
        ("png", "jpg", "animated.gif", "mp4"),
        ("cut-3", "flip-4", "zeros-0", "head-1", "huge-1", "splice-0"),
    )
    chosen = [file for file in corpus() if file.kind in kinds and file.damage in damages]
    assert len(chosen) == len(kinds) * len(damages)
    assert _wrong(chosen, tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_damaged_media(tmp_path: Path) -> None:
    files = list(corpus())
    assert len(files) >= 500
    assert _wrong(files, tmp_path) == []


def test_the_corpus_is_the_same_every_time() -> None:
    first, second = (dict(Counter((f.kind, f.damage) for f in corpus())) for _ in range(2))
    assert first == second
    assert max(first.values()) == 1
    kinds = {kind for kind, _ in first}
    assert kinds == good().keys()


def test_a_reading_process_that_dies_is_seen(tmp_path: Path) -> None:
    """What the tests above are worth: a file that ends the process is a crash, and the next one is read."""
    reader = Reader()
    try:
        (tmp_path / "good.png").write_bytes(good()["png"])
        assert reader.ask(tmp_path / "good.png", tmp_path / "good.png")["outcome"] == "same"
        reader._running().kill()
        assert reader.ask(tmp_path / "good.png", tmp_path / "good.png")["outcome"] == "crash"
        assert reader.ask(tmp_path / "good.png", tmp_path / "good.png")["outcome"] == "same"
    finally:
        reader.close()


@pytest.mark.parametrize("name", targets())
def test_readers_of_damaged_files(name: str, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    fuzz(name, tmp_path / "world", 4, lambda code: counts.update([code]))
    assert counts.total() >= 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", targets())
def test_readers_of_many_damaged_files(name: str, tmp_path: Path) -> None:
    fuzz(name, tmp_path / "world", 300, lambda _: None)


def test_damage_is_what_it_says() -> None:
    data = bytes(range(100))
    assert damage(data, [("cut", 0.5, 0.5, b"x")]) == data[:50]
    assert damage(data, [("put", 0.5, 0.5, b"xy")]) == data[:50] + b"xy" + data[50:]
    assert damage(data, [("drop", 0.2, 0.4, b"x")]) == data[:20] + data[40:]
    assert damage(data, [("repeat", 0.2, 0.4, b"x")]) == data[:40] + data[20:]
    assert damage(data, [("flip", 0.5, 0.5, b"\x00")]) != data
