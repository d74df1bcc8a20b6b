"""One contract for every dataset reader, over tiny copies in the official layouts."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_fixtures import Fixture, fixtures

from facellava import tasks
from facellava.errors import SourceLayout, UsageError
from facellava.instruct import sources
from facellava.instruct.sources.base import Source
from facellava.types import Sample

NAMES = tuple(sources.all_sources())
READY = tuple(name for name in NAMES if name in fixtures())


def test_every_source_has_a_tiny_copy() -> None:
    assert set(fixtures()) == set(NAMES), "add a Fixture to tests/instruct/source_fixtures_*.py for a new dataset"


@pytest.fixture(scope="module", params=READY)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A reader and its copy, which no test changes."""
    fixture = fixtures()[request.param]
    root = tmp_path_factory.mktemp(fixture.source)
    fixture.build(root)
    yield World(fixture, root)
    shutil.rmtree(root)


class World:
    """One reader, its tiny copy, and what is read from it."""

    def __init__(self, fixture: Fixture, root: Path) -> None:
        self.fixture, self.root = fixture, root
        self.source: Source = sources.get(fixture.source)
        self.info = self.source.INFO

    def read(self, **options: object) -> list[Sample]:
        """The samples of all splits."""
        return self.read_at(self.root, **options)

    def read_at(self, root: Path, **options: object) -> list[Sample]:
        """The same of another copy."""
        return [sample for split in self.info.splits for sample in self.source.read(root, split, **options)]

    def copy(self, target: Path) -> Path:
        """A copy that may be damaged."""
        return Path(shutil.copytree(self.root, target / "copy"))


def test_info_says_all_there_is_to_know(world: World) -> None:
    info = world.info
    assert info.name == world.fixture.source
    assert info.task in ("", *tasks.all_tasks())
    assert info.modality in ("image", "video", "both")
    assert set(info.splits) <= {"train", "val", "test"} and "train" in info.splits
    assert all(text.strip() for text in (info.title, info.licence, info.obtain, info.layout))
    assert set(info.expected) <= {*info.splits, "all"}
    assert set(info.resized_by) <= set(info.options)
    assert 0 <= info.tolerance < 0.05 and (info.expected or not info.tolerance)
    assert all(len(text) > 10 for text in info.options.values())
    if info.name != "folder":
        assert info.citation and not info.redistribute
        assert "http" in info.obtain or info.name == "real_faces"
    if info.in_paper:
        assert info.counts is not None and list(info.counts) == sorted(info.counts, reverse=True)
        # Table 11 is rounded; its first column and the official counts are of one size
        official = info.expected.get("all", sum(info.expected.values()))
        assert not official or official == pytest.approx(info.counts[0], rel=0.15)
    else:
        assert info.counts is None


def test_labels_are_those_written_by_hand(world: World) -> None:
    found = {split: {s.id: s.label for s in world.source.read(world.root, split)} for split in world.info.splits}
    assert found == world.fixture.labels


def test_samples_keep_the_contract(world: World) -> None:
    samples = world.read()
    ids = [sample.id for sample in samples]
    assert len(set(ids)) == len(ids)
    for sample in samples:
        task = tasks.get(sample.task)
        assert sample.source == world.info.name and sample.id.startswith(f"{world.info.name}/")
        assert sample.media.is_absolute() and sample.media.is_file()
        assert world.info.task in ("", sample.task)
        assert world.info.modality in ("both", sample.kind)
        assert world.info.labelled or sample.label is None
        if task.kind == "multi" and sample.label is not None:
            assert isinstance(sample.label, tuple) and sample.known
            assert sample.label == task.sort(sample.label) and sample.known == task.sort(sample.known)
        elif task.kind == "number":
            assert task.number is not None and isinstance(sample.label, int)
            assert task.number.minimum <= sample.label <= task.number.maximum
        else:
            assert sample.label is None or sample.label in task.names


def test_two_reads_are_the_same(world: World) -> None:
    assert world.read() == world.read()


def test_nobody_is_in_two_splits(world: World) -> None:
    for options in ({}, *world.fixture.options):
        splits = defaultdict(set)
        for sample in world.read(**options):
            if sample.subject is not None:
                splits[sample.subject].add(sample.split)
        shared = {person: found for person, found in splits.items() if len(found) > 1}
        assert not shared, f"with {options}"


def test_options_are_accepted_or_refused(world: World) -> None:
    known = {*world.fixture.refused, *world.fixture.free}
    assert known == set(world.info.options), "say in the Fixture which value of an option must be refused"
    for options in world.fixture.options:
        assert all(sample.media.is_file() for sample in world.read(**options)), f"with {options}"
    for name, value in world.fixture.refused.items():
        with pytest.raises(UsageError, match=name if name != "task" else "task|known"):
            world.read(**{name: value})


def test_unknown_options_and_splits_name_the_known_ones(world: World) -> None:
    with pytest.raises(UsageError, match=f"{world.info.name} has no option 'colour'; it has "):
        world.source.read(world.root, "train", colour=1)
    with pytest.raises(UsageError, match=f"no split 'holdout'; it has {', '.join(world.info.splits)}"):
        world.source.read(world.root, "holdout")


def test_a_wrong_root_is_told_with_what_was_expected(world: World, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(SourceLayout) as caught:
            world.read_at(root)
        assert str(root) in str(caught.value)
        if world.info.name != "real_faces":
            first = world.info.layout.split()[0]
            assert f"The official layout is: {first}" in str(caught.value)


def test_a_missing_annotation_is_told_with_its_name(world: World, tmp_path: Path) -> None:
    assert world.fixture.annotations
    for number, group in enumerate(world.fixture.annotations):
        (tmp_path / str(number)).mkdir()
        root = world.copy(tmp_path / str(number))
        for name in group:
            shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()
        with pytest.raises(SourceLayout, match=re.escape(Path(group[0]).name)) as caught:
            world.read_at(root)
        assert str(root) in str(caught.value)
        shutil.rmtree(root)


def test_an_unknown_label_is_told_with_its_place(world: World, tmp_path: Path) -> None:
    breakage = world.fixture.breakage
    if breakage is None:
        assert not world.info.labelled or world.info.name == "faba_instruct"
        return
    root = world.copy(tmp_path)
    breakage.do(root)
    with pytest.raises(breakage.error) as caught:
        world.read_at(root)
    assert str(root) in str(caught.value)
    for expected in breakage.says:
        assert re.search(expected, str(caught.value)), f"{caught.value} does not say {expected}"


def test_annotations_that_are_no_text_are_told(world: World, tmp_path: Path) -> None:
    root = world.copy(tmp_path)
    files = [root / name for group in world.fixture.annotations for name in group if (root / name).is_file()]
    for path in files:
        path.write_bytes(b"\xff\xd8\xff\xe0" * 40)
    if files:
        with pytest.raises(SourceLayout, match="expected UTF-8 text"):
            world.read_at(root)


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown source 'vggface'; known: affectnet, bp4d"):
        sources.get("vggface")
