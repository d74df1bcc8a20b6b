"""A build from recipe to dataset. Every stage works off what its journal lacks, so a build can be killed anywhere.

read -> preprocess -> annotate -> rate -> filter -> pair with questions -> choose the test set -> write. A sample ends
as a row of the dataset or as a line of the ledger; ``Build.run`` checks that none is lost and none is there twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from facellava.errors import UsageError
from facellava.instruct import preprocess, sources
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.compose import question_for
from facellava.instruct.executor import Engine, Make, ThreadEngine, WorkerDied
from facellava.instruct.journal import Journal, locked
from facellava.instruct.recipe import Recipe, ServiceConfig, SourceConfig
from facellava.instruct.records import Annotation, Instruction, Rating, Rejection
from facellava.instruct.select import select
from facellava.instruct.services import Services
from facellava.instruct.stages import AnnotateStage, Item, RateStage, died, is_final, item_key
from facellava.types import Sample

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how many are done and how many there are."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Says nothing."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A sample that has survived so far, with what the stages made of it."""

    sample: Sample
    clip: str
    duration: float
    sha256: str
    annotation: Annotation | None = None
    rating: Rating | None = None


@dataclass
class Result:
    """What a build came to: rows in order of their sample ids, and the ledger in the same order."""

    read: list[Sample]
    rows: list[Instruction]
    rejected: list[Rejection]
    notes: list[str]


def read_source(config: SourceConfig) -> list[Sample]:
    """The samples of one source of a recipe, thinned to its limit, under its name in this build."""
    source = sources.get(config.name)
    unknown = set(config.splits) - set(source.INFO.splits)
    if unknown:
        raise UsageError(f"{config.name} has no split {min(unknown)!r}; it has {', '.join(source.INFO.splits)}")
    kept: list[Sample] = []
    for split in config.splits or source.INFO.splits:
        found = [
            sample
            for sample in source.read(Path(config.root), split, **config.options)
            if not config.tasks or sample.task in config.tasks
        ]
        if config.limit:
            # by a hash of the id: any fixed step may fall in with an order of tasks or classes
            found.sort(key=lambda sample: hashlib.sha256(sample.id.encode()).digest())
        kept += found[: config.limit or None]
    return [_renamed(sample, config.label) for sample in kept]


def _renamed(sample: Sample, label: str) -> Sample:
    if sample.source == label:
        return sample
    return dataclasses.replace(sample, source=label, id=label + sample.id.removeprefix(sample.source))


class Build:
    """One build folder.

    Args:
        recipe: what to build. out: the build folder; made when missing.
        engine: runs preprocessing, and annotators and raters that call no service.
        services: makes annotators, raters and their clients.
        progress: is told how far each stage is.
    """

    def __init__(
        self, recipe: Recipe, out: Path, engine: Engine, services: Services, progress: Progress = no_progress
    ) -> None:
        self.recipe, self.out, self.engine, self.progress = recipe, out, engine, progress
        self.services = services
        self.store = out / "clips"
        self.rejected: list[Rejection] = []

    def run(self) -> Result:
        """Work off what is left and put the rows together; writes journals and clips, not the dataset.

        Raises:
            BuildLocked: another process is at work here. ConsentNeeded, BudgetExceeded, SourceLayout, LabelUnknown, ...
        """
        with locked(self.out), ExitStack() as stack:
            self.rejected = []
            journals = {
                name: stack.enter_context(Journal(self.out / "journal" / f"{name}.jsonl"))
                for name in ("preprocess", "annotate", "rate")
            }
            samples = self._read()
            self.services.check_consent()
            kept = self._preprocess(samples, journals["preprocess"])
            kept = self._annotate(kept, journals["annotate"])
            kept = self._rate(kept, journals["rate"])
            return self._finish(samples, self._filter(kept))

    def estimate(self) -> dict[str, Any]:
        """Preprocess what is left, then say what annotating and rating will cost; no service is asked.

        The rater's calls are estimated as if nothing were rejected before.
        """
        with locked(self.out), Journal(self.out / "journal" / "preprocess.jsonl") as journal:
            kept = self._preprocess(self._read(), journal)
        if not kept:
            raise UsageError("no sample survived preprocessing, so there is nothing to estimate")
        k, store, found = kept[0], ClipStore(self.store), {"samples": len(kept)}
        item = Item("", k.sample, k.clip, Annotation("A description of a usual length. " * 12, ""))
        for stage, config in (("annotate", self.recipe.annotate), ("rate", self.recipe.rate)):
            if config is not None and config.is_service:
                example = next(self.services.requests(stage, [item], store))
                cost = dataclasses.asdict(self.services.estimate(len(kept), example, config))
                found |= {f"{stage}_{name}": value for name, value in cost.items()}
        return found

    # --- stages ---

    def _read(self) -> list[Sample]:
        found: list[Sample] = []
        for number, config in enumerate(self.recipe.sources):
            self.progress("read", number, len(self.recipe.sources))
            found += read_source(config)
        self.progress("read", len(self.recipe.sources), len(self.recipe.sources))
        found.sort(key=lambda sample: sample.id)
        for one, other in pairwise(found):
            if one.id == other.id:
                raise UsageError(f"two samples are called {one.id}: rename one of the sources or mend its ids")
        if not found:
            raise UsageError("the recipe's sources hold no sample: check 'splits', 'tasks' and 'limit'")
        return found

    def _preprocess(self, samples: list[Sample], journal: Journal) -> list[Kept]:
        made_by = preprocess.fingerprint(self.recipe.preprocess)
        store = ClipStore(self.store)
        keys = {sample.id: preprocess.unit_key(sample, made_by) for sample in samples}
        # a clip that somebody deleted is made again
        done = [k for k, row in journal.rows.items() if is_final(row) and (not row["clip"] or row["clip"] in store)]
        work = list(preprocess.jobs(samples, keys, done))
        total = sum(len(job.units) for job in work)
        maker: Make[preprocess.Job, list[preprocess.Outcome]] = preprocess.Preprocessor(
            self.store, self.recipe.preprocess
        )
        count = 0
        for job, outcomes in self.engine.run(maker, work):
            if isinstance(outcomes, WorkerDied):
                outcomes = [preprocess.Outcome(k, code="worker_died", message=str(outcomes)) for k in job.keys]
            for outcome in outcomes:
                journal.append(outcome.key, preprocess.outcome_row(outcome))
            count += len(outcomes)
            self.progress("preprocess", count, total)
        return list(self._survivors_of_preprocessing(samples, keys, journal))

    def _survivors_of_preprocessing(
        self, samples: list[Sample], keys: dict[str, str], journal: Journal
    ) -> Iterator[Kept]:
        for sample in samples:
            row = journal.rows[keys[sample.id]]
            if row["clip"]:
                yield Kept(sample, row["clip"], row["duration"], row["sha256"])
            else:
                self._reject(sample, "preprocess", row)

    def _annotate(self, kept: list[Kept], journal: Journal) -> list[Kept]:
        config = self.recipe.annotate
        make = self.services.annotator()
        made_by = make().fingerprint
        items = [Item(item_key(k.sample, k.clip, made_by), k.sample, k.clip) for k in kept]
        self._work_off("annotate", config, AnnotateStage(self.store, make), items, journal)
        return [
            dataclasses.replace(k, annotation=Annotation(**row["result"]))
            for k, row in self._successes(kept, items, journal, "annotate")
        ]

    def _rate(self, kept: list[Kept], journal: Journal) -> list[Kept]:
        config = self.recipe.rate
        if config is None:
            return kept
        make = self.services.rater()
        made_by = make().fingerprint
        items = []
        for k in kept:
            assert k.annotation is not None
            key = item_key(k.sample, k.clip, made_by, k.annotation.description)
            items.append(Item(key, k.sample, k.clip, k.annotation))
        self._work_off("rate", config, RateStage(self.store, make), items, journal)
        return [
            dataclasses.replace(k, rating=Rating(**row["result"]))
            for k, row in self._successes(kept, items, journal, "rate")
        ]

    def _work_off(
        self, stage: str, config: ServiceConfig, make: Make[Item, dict[str, Any]], items: list[Item], journal: Journal
    ) -> None:
        left = [item for item in items if item.key not in journal.rows or not is_final(journal.rows[item.key])]
        if config.is_service:
            # calls wait on a service: threads of one process, so that budget, limits and cache are one
            engine: Engine = ThreadEngine(config.concurrency)
            if config.batch:
                self.services.run_batches(stage, left, ClipStore(self.store), self.progress)
        else:
            engine = self.engine
        for count, (item, row) in enumerate(engine.run(make, left), 1):
            journal.append(item.key, died(row) if isinstance(row, WorkerDied) else row)
            self.progress(stage, count, len(left))

    def _successes(
        self, kept: Sequence[Kept], items: Sequence[Item], journal: Journal, stage: str
    ) -> Iterator[tuple[Kept, Any]]:
        for k, item in zip(kept, items, strict=True):
            row = journal.rows[item.key]
            if "result" in row:
                yield k, row
            else:
                self._reject(k.sample, stage, row)

    def _filter(self, kept: list[Kept]) -> list[Kept]:
        rule = self.recipe.filter
        if not rule.enabled:
            return kept
        good = []
        for k in kept:
            if k.rating is None or k.rating.overall > rule.threshold:
                good.append(k)
                continue
            message = f"overall rating {k.rating.overall} of 10 is at or below {rule.threshold}: {k.rating.reason}"
            self._reject(k.sample, "filter", {"code": "overall_rating", "message": message})
        return good

    def _finish(self, samples: list[Sample], kept: list[Kept]) -> Result:
        rows = [self._row(k) for k in kept]
        chosen = select(rows, self.recipe.test, seed=self.recipe.seed, read=samples)
        rejected = sorted([*self.rejected, *chosen.rejected], key=lambda r: r.sample)
        _account(samples, chosen.rows, rejected)
        return Result(samples, chosen.rows, rejected, chosen.notes)

    def _row(self, kept: Kept) -> Instruction:
        assert kept.annotation is not None
        question = question_for(kept.sample, self.recipe.seed)
        return Instruction(kept.sample, "train", kept.clip, kept.duration, question, kept.annotation, kept.rating)

    def _reject(self, sample: Sample, stage: Any, row: Any) -> None:
        self.rejected.append(Rejection(sample.id, sample.source, sample.task, stage, row["code"], row["message"]))


def _account(samples: Iterable[Sample], rows: Iterable[Instruction], rejected: Iterable[Rejection]) -> None:
    """Every sample is in the result or in the ledger, once."""
    ends = sorted([row.sample.id for row in rows] + [r.sample for r in rejected])
    assert ends == sorted(sample.id for sample in samples), "a sample was lost or doubled"
