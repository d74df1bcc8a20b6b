"""Judged reasoning (appendix F.4, Fig. 17): three marks from 1 to 10 for an explanation, by a model that sees the face.

A judge's replies are kept as they came, so that nothing is paid twice; a judge that was killed goes on where it was.
What it refuses or garbles is recorded with its reason and missing from the means, and their number stands beside them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from facellava import tasks
from facellava.errors import UsageError
from facellava.evaluation.records import RUN, Record, read_records
from facellava.files import read_json, read_text, reading, write_atomic
from facellava.instruct import asking
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.journal import Journal, locked
from facellava.instruct.prompts import fingerprint_of, prompt, rating_prompt
from facellava.instruct.recipe import ServiceConfig
from facellava.instruct.records import Rejected
from facellava.instruct.stages import is_final
from facellava.llm import (
    NO_PRICES,
    Budget,
    CallCache,
    ChatRequest,
    Client,
    Estimate,
    Prices,
    connect,
    estimate,
    provider_config,
    require_consent,
)
from facellava.types import FaceClip, MediaKind, Sample

CRITERIA = ("description_media", "description_label", "completeness")
"""Reasoning against the video, against the ground truth, and its completeness: the columns of Table 10."""
MARKS = "marks.jsonl"
NO_EXPLANATION = "a model that answers with a label has to be asked with --reasoning, a file needs rows of that purpose"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Marks:
    """What a judge gave one explanation; ``marks`` in the order of ``CRITERIA``, None where it gave none."""

    run: str
    id: str
    task: str
    marks: tuple[int, int, int] | None
    reason: str = ""
    code: str = ""


def read_marks(text: Mapping[str, Any]) -> tuple[tuple[int, int, int], str]:
    """Three whole numbers from 1 to 10 and the reason out of a judge's JSON.

    Raises:
        Rejected: anything else.
    """
    given = text.get("ratings")
    if not isinstance(given, Mapping) or not given.keys() >= set(CRITERIA):
        raise Rejected("invalid_answer", f"'ratings' must hold {', '.join(CRITERIA)}")
    marks = []
    for name in CRITERIA:
        value = str(given[name]).strip()
        if not (value.isascii() and value.isdecimal() and 1 <= int(value) <= 10):
            raise Rejected("invalid_answer", f"{name} is {given[name]!r}, not a whole number from 1 to 10")
        marks.append(int(value))
    return (marks[0], marks[1], marks[2]), " ".join(str(text.get("reason", "")).split())


class Judge:
    """A pinned model behind cache, budget and limits.

    Args:
        config: the service, as for annotators. out: folder in which paid replies are kept. allowed: hosts that faces
            may be sent to. budget: over all calls.

    Raises:
        ConsentNeeded, UsageError: as for every service.
    """

    def __init__(
        self, config: ServiceConfig, out: Path, allowed: Collection[str] = (), budget: Budget | None = None
    ) -> None:
        if not config.is_service or not config.model:
            raise UsageError("a judge is a service with a pinned model: give --judge openai:MODEL or a preset")
        if budget is not None and budget.max_money and not (config.price_input or config.price_output):
            raise UsageError(NO_PRICES)
        self.config = config
        self.client: Client = connect(provider_config(config, out / "calls"), CallCache(out / "calls"), budget)
        require_consent(self.client, allowed)
        self.name = "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{config.model}-{self.client.name}")
        self.fingerprint = hashlib.sha256(
            json.dumps([self.client.name, config.model, config.max_tokens, fingerprint_of("judge")]).encode()
        ).hexdigest()[:16]

    def request(self, record: Record, task: str, clip: FaceClip, attempt: int = 0, problem: str = "") -> ChatRequest:
        """The question about one explanation; the same bytes whenever it is asked."""
        pictures = asking.pictures(clip)
        sample = _sample(record, task)
        _, text = rating_prompt(sample, record.explanation, frames=len(pictures), purpose="judge")
        return ChatRequest(
            model=self.config.model,
            text=asking.repaired(text, attempt, problem),
            attachments=pictures,
            max_tokens=self.config.max_tokens,
            attempt=attempt,
        )

    def mark(self, record: Record, task: str, clip: FaceClip) -> dict[str, Any]:
        """The journal row of one explanation."""
        try:
            (marks, reason), asked = asking.ask(
                self.client,
                lambda attempt, problem: self.request(record, task, clip, attempt, problem),
                lambda reply: read_marks(asking.read_object(reply)),
                self.config.attempts,
            )
        except Rejected as rejected:
            return {"code": rejected.code, "message": rejected.message}
        made = {
            "model": self.config.model,
            "prompt": prompt(task, "judge", "judge", cast(MediaKind, record.media)).hash,
        }
        return {"marks": marks, "reason": reason, **made, **dataclasses.asdict(asked)}


def _sample(record: Record, task: str) -> Sample:
    """What the prompt needs of the sample."""
    known = record.known
    source, kind = record.id.partition("/")[0], cast(MediaKind, record.media)
    return Sample(record.id, source, "test", task, Path("/"), kind, record.truth, known)


def judge_runs(
    judge: Judge, runs: Sequence[Path], out: Path, *, limit: int = 0, progress: Progress = lambda *_: None
) -> list[Marks]:
    """Mark the explanations of several runs; returns their marks.

    ``out/judge/NAME/marks.jsonl`` holds those of all runs that the judge has seen.

    Args:
        runs: folders of finished runs below ``out``. limit: explanations of each run, 0 for all, chosen by id.

    Raises:
        BudgetExceeded: at the cap; what was paid for is kept. FileMissing: a run is not finished. UsageError: a run
            lies elsewhere, or none holds an explanation.
    """
    folder = out / "judge" / judge.name
    store = ClipStore(out / "clips")
    work: list[tuple[str, str, str, Record]] = []
    for run in runs:
        task = run_task(run)
        if not run.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{run} is not below {out}: give the folder of its runs with --out")
        name = run.resolve().relative_to(out.resolve()).as_posix()
        for record in _chosen(read_records(run), limit):
            asked = json.dumps([record.explanation, record.truth, record.known, record.clip])
            key = f"{judge.fingerprint} {name} {record.id} {hashlib.sha256(asked.encode()).hexdigest()[:16]}"
            work.append((key, name, task, record))
    if not work:
        raise UsageError(f"the runs hold no explanation to judge: {NO_EXPLANATION}")
    with locked(folder), Journal(folder / "journal.jsonl") as journal:
        left = [w for w in work if w[0] not in journal.rows or not is_final(journal.rows[w[0]])]
        with ThreadPoolExecutor(max(1, judge.config.concurrency)) as pool:
            rows = pool.map(lambda w: judge.mark(w[3], w[2], store.load(w[3].clip)), left)
            for count, (entry, row) in enumerate(zip(left, rows, strict=True), 1):
                journal.append(entry[0], row)
                progress("judged", count, len(left))
        marks = [_marks(name, task, record, journal.rows[key]) for key, name, task, record in work]
        known = {(m.run, m.id): m for m in load_marks(folder / MARKS)} if (folder / MARKS).is_file() else {}
        known |= {(m.run, m.id): m for m in marks}
        write_atomic(folder / MARKS, "".join(json.dumps(dataclasses.asdict(m)) + "\n" for m in known.values()))
    return marks


def _chosen(records: Sequence[Record], limit: int) -> list[Record]:
    having = [r for r in records if r.status == "answered" and r.clip and r.explanation and not r.abstained]
    having.sort(key=lambda r: hashlib.sha256(r.id.encode()).digest())
    return having[: limit or None]


def _marks(run: str, task: str, record: Record, row: Mapping[str, Any]) -> Marks:
    if "code" in row:
        return Marks(run, record.id, task, None, row["message"], row["code"])
    one, two, three = row["marks"]
    return Marks(run, record.id, task, (one, two, three), row["reason"])


def run_task(run: Path) -> str:
    """The task that a run is about."""
    path = run / RUN
    if not path.is_file():
        raise UsageError(f"{run} is no folder of a finished run")
    return read_json(path)["same"]["benchmark"]["task"]


def estimate_cost(judge: Judge, runs: Sequence[Path], out: Path, limit: int = 0) -> Estimate:
    """What judging will cost, without asking: as many calls as explanations, each like the first."""
    chosen = [(run_task(run), record) for run in runs for record in _chosen(read_records(run), limit)]
    if not chosen:
        raise UsageError(f"the runs hold no explanation to judge: {NO_EXPLANATION}")
    task, record = chosen[0]
    config = judge.config
    return estimate(
        len(chosen),
        judge.request(record, task, ClipStore(out / "clips").load(record.clip)),
        Prices(config.price_input, config.price_output),
        answer_tokens=80,
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
    )


def load_marks(path: Path) -> list[Marks]:
    """The marks that a judge left."""
    with reading(path, "run 'facellava judge' again"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Marks(**{**row, "marks": _three(row["marks"])}) for row in rows]


def _three(marks: list[int] | None) -> tuple[int, int, int] | None:
    if not marks:
        return None
    one, two, three = marks
    return one, two, three


# --- Table 10 ---


def mean_marks(marks: Sequence[Marks]) -> dict[tuple[str, str], tuple[float, int]]:
    """(criterion, task or ``all``) -> (mean, number); ``all`` is the mean of the tasks' means, as in Table 10."""
    by_task: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for m in marks:
        if m.marks is not None:
            by_task[m.task].append(m.marks)
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for place, criterion in enumerate(CRITERIA):
        means = {task: float(np.mean([m[place] for m in given])) for task, given in by_task.items()}
        found |= {(criterion, task): (mean, len(by_task[task])) for task, mean in means.items()}
        if set(means) == set(tasks.all_tasks()):
            found[criterion, "all"] = (float(np.mean(list(means.values()))), sum(map(len, by_task.values())))
    return found


def refusals(marks: Sequence[Marks]) -> Counter[str]:
    """How many explanations were not marked, by reason."""
    return Counter(m.code for m in marks if m.code)


# --- agreement ---


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two judges on one criterion: weighted kappa (quadratic), Spearman's rank correlation, mean distance, n."""

    criterion: str
    kappa: float
    spearman: float
    distance: float
    n: int


def agreement(first: Sequence[Marks], second: Sequence[Marks]) -> list[Agreement]:
    """How far two judges, or a judge and people, give the same explanations the same marks."""
    others = {(m.run, m.id): m.marks for m in second if m.marks is not None}
    pairs = [(m.marks, others[m.run, m.id]) for m in first if m.marks is not None and (m.run, m.id) in others]
    found = []
    for place, criterion in enumerate(CRITERIA):
        one = np.array([a[place] for a, _ in pairs], int)
        two = np.array([b[place] for _, b in pairs], int)
        distance = float(np.abs(one - two).mean()) if pairs else math.nan
        found.append(Agreement(criterion, weighted_kappa(one, two), spearman(one, two), distance, len(pairs)))
    return found


def weighted_kappa(one: np.ndarray, two: np.ndarray) -> float:
    """Cohen's kappa with quadratic weights: 1 minus observed over expected squared distance."""
    if not len(one):
        return math.nan
    expected = float(((one[:, None] - two[None, :]) ** 2).mean())
    return 1.0 - float(((one - two) ** 2).mean()) / expected if expected else math.nan


def spearman(one: np.ndarray, two: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank; nan where one side never varies."""
    if len(set(one.tolist())) < 2 or len(set(two.tolist())) < 2:
        return math.nan
    return float(np.corrcoef(_ranks(one), _ranks(two))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def read_human(path: Path) -> list[Marks]:
    """Marks by people: a CSV with ``run``, ``id`` and the three criteria; several rows of one explanation are averaged
    and rounded.

    Raises:
        UsageError: a missing column or a mark that is no whole number from 1 to 10.
    """
    import csv
    import io

    given: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    if lacking := {"run", "id", *CRITERIA} - set(reader.fieldnames or ()):
        raise UsageError(f"{path}: the column {min(lacking)} is missing; needed are run, id, {', '.join(CRITERIA)}")
    for line, row in enumerate(reader, 2):
        try:
            marks, _ = read_marks({"ratings": row})
        except Rejected as rejected:
            raise UsageError(f"{path}, line {line}: {rejected.message}") from rejected
        given[row["run"], row["id"]].append(marks)
    means = {key: np.floor(np.mean(rows, axis=0) + 0.5).astype(int).tolist() for key, rows in given.items()}
    return [Marks(run, name, "", (m[0], m[1], m[2])) for (run, name), m in means.items()]
