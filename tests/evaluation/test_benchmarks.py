"""Every shipped benchmark: its protocol is the paper's, its folds are disjoint, its sources can be read."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from source_fixtures import fixtures

import facellava.evaluation.benchmark as benchmark_module
from facellava import settings
from facellava.errors import FileMissing, UsageError
from facellava.evaluation import published
from facellava.evaluation.benchmark import Benchmark, load_benchmark, read_items, shipped, training_labels
from facellava.evaluation.metrics import MultiAnswers, NumberAnswers, SingleAnswers
from facellava.instruct import sources
from facellava.instruct.recipe import SourceConfig
from facellava.types import Sample

PAPER = {
    "dfew": ("expression", 5),
    "crema_d": ("expression", 5),
    "raf_db": ("expression", 0),
    "disfa": ("action_units", 3),
    "bp4d": ("action_units", 3),
    "celeba": ("attributes", 0),
    "morph2": ("age", 0),
    "utkface": ("age", 0),
    "faceforensics": ("deepfake", 0),
}
"""Section 5.1: the nine benchmarks, their tasks, and the number of folds of appendix F.3."""


def test_the_papers_nine_and_an_open_one_for_every_task() -> None:
    assert set(PAPER) <= set(shipped())
    open_ones = [load_benchmark(name) for name in shipped() if name.startswith("open_")]
    assert {b.task for b in open_ones} == {"expression", "action_units", "attributes", "age", "deepfake"}


@pytest.mark.parametrize("name", shipped())
def test_a_benchmark_is_well_formed(name: str) -> None:
    found = load_benchmark(name)
    assert found.name == name
    assert found.protocol.endswith(".")
    kinds = {
        "single": SingleAnswers(found.names, np.zeros(1, int), np.zeros(1, int)),
        "multi": MultiAnswers(("x",), *(np.zeros((1, 1), bool),) * 3),
        "number": NumberAnswers(*(np.zeros(1),) * 4),
    }
    assert set(found.metrics) <= kinds[found.spec.kind].metrics().keys()
    for source in found.sources:
        info = sources.get(source.name).INFO
        assert found.split in info.splits
        assert not found.folds or "fold" in info.options
        assert set(source.options) <= set(info.options)


@pytest.mark.parametrize("name", PAPER)
def test_the_protocol_is_that_of_appendix_f3(name: str) -> None:
    found = load_benchmark(name)
    assert (found.task, found.folds) == PAPER[name]
    published_metrics = {c.metric for t in published.all_tables() for c in t.columns if c.benchmark == name}
    shown = {m for m in published_metrics if "." not in m}
    assert shown <= set(found.metrics), "a published number that we do not compute"


def test_units_and_chunks_are_those_of_the_paper() -> None:
    eight = ("AU1", "AU2", "AU4", "AU6", "AU9", "AU12", "AU25", "AU26")
    twelve = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU14", "AU15", "AU17", "AU23", "AU24")
    assert load_benchmark("disfa").names == eight
    assert load_benchmark("bp4d").names == twelve
    assert load_benchmark("faceforensics").vote == ("native", "video")


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_benchmarks_read_official_layouts(name: str, tmp_path: Path) -> None:
    fixtures()[name].build(tmp_path)
    found = load_benchmark(name, {name: tmp_path})
    folds = (1, 2) if name == "dfew" else ()
    items = read_items(found, folds=folds)  # the tiny copy of DFEW has two folds
    assert items
    by_fold = defaultdict(set)
    for item in items:
        assert item.sample.task == found.task
        assert set(item.sample.known) <= set(found.names)
        by_fold[item.fold].add(item.sample.subject or item.sample.id)
    counts = Counter(person for people in by_fold.values() for person in people)
    assert max(counts.values()) == 1, "a person in two folds"


def test_official_folds_are_read_as_they_are(tmp_path: Path) -> None:
    fixtures()["dfew"].build(tmp_path)
    items = read_items(load_benchmark("dfew", {"dfew": tmp_path}), folds=(1, 2))
    assert {(item.sample.id, item.fold) for item in items} == {
        ("dfew/00004", 1),
        ("dfew/00005", 1),
        ("dfew/00001", 2),
        ("dfew/00002", 2),
    }


def test_pieces_of_one_video_vote_together(tmp_path: Path) -> None:
    fixtures()["faceforensics"].build(tmp_path)
    found = load_benchmark("faceforensics", {"faceforensics": tmp_path})
    votes = Counter("/".join(str(i.sample.meta[k]) for k in found.vote) for i in read_items(found))
    assert set(votes.values()) == {2}, "7.25 s are two pieces of three seconds"


def test_labels_of_training_are_of_other_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixtures()["crema_d"].build(tmp_path)
    found = load_benchmark("crema_d", {"crema_d": tmp_path})
    assert "surprise" not in found.names, "CREMA-D has six expressions"
    seen: list[str] = []
    real = benchmark_module.read_source

    def watched(config: SourceConfig) -> list[Sample]:
        samples = real(config)
        seen.extend(str(sample.subject) for sample in samples)
        return samples

    monkeypatch.setattr(benchmark_module, "read_source", watched)
    for fold in sorted({item.fold for item in read_items(found)}):
        tested = {item.sample.subject for item in read_items(found, folds=(fold,))}
        seen.clear()
        training_labels(found, fold)
        assert seen
        assert tested.isdisjoint(seen)


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="not among the shipped benchmarks: bp4d"):
        load_benchmark("nothing")
    with pytest.raises(UsageError, match="source dfew has no root: add --root dfew=DIR"):
        load_benchmark("dfew", {})
    fixtures()["dfew"].build(tmp_path)
    found = load_benchmark("dfew", {"dfew": tmp_path})
    with pytest.raises(UsageError, match="has folds 1 to 5, there is no fold 6"):
        read_items(found, folds=(6,))
    with pytest.raises(UsageError, match="unknown key 'metric'"):
        settings.build(Benchmark, {"metric": 1}, "mine")
