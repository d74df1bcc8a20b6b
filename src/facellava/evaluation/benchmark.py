"""A benchmark is one TOML: where its samples come from, how folds and votes work, which metrics it is published in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facellava import settings, tasks
from facellava.errors import UsageError
from facellava.instruct.pipeline import read_source
from facellava.instruct.recipe import SourceConfig, place_sources
from facellava.tasks.task import Task
from facellava.types import LabelValue, Sample

FOLDER = "facellava.evaluation"


@dataclass(frozen=True)
class Benchmark:
    """What is tested and how it is counted.

    Attributes:
        name, title: for programs and people. task: the one that is tested.
        metrics: names as in ``metrics.py``, the headline first.
        sources: readers, as in a build's recipe; only their ``split`` is read.
        split: that is tested. train: that a trivial baseline learns from; "" for none.
        folds: read with the reader's option ``fold`` = 1 ... n and averaged; 0 for one fixed split.
        labels: a named list of the task's labels, such as ``disfa``; "" for those that each sample knows.
        vote: keys of a sample's meta; predictions that agree in them are of one video and become one by majority.
        policy: ``paper`` leaves clips out that appendix E.1 drops, and says so; ``all`` takes the labelled face.
        groups: name -> key of a sample's meta, for errors by group.
        samples: number of test samples of a complete copy, over all folds; 0 where nobody states it.
        protocol: where the protocol comes from and where we had to decide, for people.
    """

    name: str
    title: str
    task: str
    metrics: tuple[str, ...]
    sources: tuple[SourceConfig, ...]
    split: Literal["train", "val", "test"] = "test"
    train: str = "train"
    folds: int = 0
    labels: str = ""
    vote: tuple[str, ...] = ()
    policy: Literal["paper", "all"] = "all"
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    samples: int = 0
    protocol: str = ""

    @property
    def spec(self) -> Task:
        """The task with its labels."""
        return tasks.get(self.task)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that are asked for and counted; empty for a number."""
        spec = self.spec
        return spec.subset(self.labels) if self.labels else spec.names

    def names_for(self, sample: Sample) -> tuple[str, ...]:
        """The labels that a question about a sample offers.

        A dataset without a list of its own says for each sample what it was looked at for.
        """
        return sample.known if self.spec.kind == "multi" and not self.labels else self.names

    def vote_of(self, sample: Sample) -> str:
        """The video that a sample votes for; "" where every sample counts."""
        return "/".join(str(sample.meta.get(key, "")) for key in self.vote)


@dataclass(frozen=True, slots=True)
class Item:
    """One sample of a benchmark. ``fold`` is 0 where there are none."""

    sample: Sample
    fold: int


def shipped() -> tuple[str, ...]:
    """Names of the benchmarks that come with the package."""
    return settings.shipped(FOLDER, "benchmarks")


def load_benchmark(name: str, roots: Mapping[str, Path] | None = None) -> Benchmark:
    """A benchmark from a file, or a shipped one by name.

    Args:
        roots: source -> folder of your copy; None leaves the sources without (for looking at the protocol only).

    Raises:
        FileMissing: no such benchmark. UsageError: unknown keys, tasks, labels or sources; a source without a root.
    """
    raw, base = settings.read_recipe(name, FOLDER, "benchmarks")
    found = settings.build(Benchmark, raw, name)
    if found.labels:
        found.spec.subset(found.labels)
    if not found.metrics or not found.sources:
        raise UsageError(f"{name}: a benchmark needs at least one metric and one source")
    if roots is None:
        return found
    return dataclasses.replace(found, sources=place_sources(found.sources, base, roots, name))


def read_items(benchmark: Benchmark, *, folds: Sequence[int] = (), limit: int = 0) -> list[Item]:
    """The test samples of all folds, in order of their ids.

    Args:
        folds: some of them; all by default. limit: at most so many of each source and fold, 0 for all.

    Raises:
        UsageError: a fold that the benchmark lacks, or no sample at all. SourceLayout, LabelUnknown: of the readers.
    """
    known = range(1, benchmark.folds + 1)
    if unknown := set(folds) - set(known):
        has = f"has folds 1 to {benchmark.folds}" if benchmark.folds else "has no folds"
        raise UsageError(f"{benchmark.name} {has}, there is no fold {min(unknown)}")
    found: dict[str, Item] = {}
    for fold in folds or known or (0,):
        for sample in _read(benchmark, benchmark.split, fold, limit):
            if sample.id in found:
                raise UsageError(f"{benchmark.name}: {sample.id} is in folds {found[sample.id].fold} and {fold}")
            found[sample.id] = Item(sample, fold)
    if not found:
        raise UsageError(f"{benchmark.name}: the sources hold no labelled sample of {benchmark.task}")
    return [found[name] for name in sorted(found)]


def training_labels(benchmark: Benchmark, fold: int) -> list[tuple[LabelValue, tuple[str, ...]]]:
    """(label, known labels) of what a baseline may learn from: the training samples of a fold; empty without any."""
    if not benchmark.train:
        return []
    return [(sample.label, sample.known) for sample in _read(benchmark, benchmark.train, fold, 0)]


def _read(benchmark: Benchmark, split: str, fold: int, limit: int) -> list[Sample]:
    more = {"fold": fold} if fold else {}
    found: list[Sample] = []
    for source in benchmark.sources:
        chosen = dataclasses.replace(
            source,
            splits=(split,),
            tasks=(benchmark.task,),
            limit=limit or source.limit,
            options={**source.options, **more},
        )
        found += [_restricted(sample, benchmark) for sample in read_source(chosen) if sample.label is not None]
    return found


def _restricted(sample: Sample, benchmark: Benchmark) -> Sample:
    """The sample with the benchmark's labels only."""
    if not benchmark.labels or not isinstance(sample.label, tuple):
        return sample
    names = benchmark.names
    return dataclasses.replace(
        sample,
        label=tuple(name for name in sample.label if name in names),
        known=tuple(name for name in sample.known if name in names),
    )
