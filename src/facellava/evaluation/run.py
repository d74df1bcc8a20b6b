"""One run: a benchmark's samples, the clips of their faces, somebody's answers, and what they come to.

Every step keeps its results in a journal, so that a run that was killed goes on where it was: no clip is made twice and
no answer paid twice. The folder says everything that determined the numbers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import facellava
from facellava.errors import BudgetExceeded, FacellavaError, RunMismatch, UsageError
from facellava.evaluation.benchmark import Benchmark, Item, read_items
from facellava.evaluation.records import RECORDS, RUN, SCORES, Record, write_records
from facellava.evaluation.respondents import Ask, Reply, Respondent, TakesBatches
from facellava.evaluation.score import Scores, score
from facellava.files import read_json, write_atomic
from facellava.instruct import preprocess
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.executor import LocalEngine, WorkerDied
from facellava.instruct.journal import Journal, locked
from facellava.instruct.recipe import PreprocessConfig
from facellava.instruct.stages import is_final
from facellava.types import FaceClip, Sample

CLIPS = "clips"
AGE_GROUPS = ((0, 19), (20, 39), (40, 59), (60, 116))
Progress = Callable[[str, int, int], None]
PURPOSES = ("metric", "reasoning")
LIBRARIES = ("numpy", "onnxruntime", "torch", "transformers", "av", "opencv-python-headless", "openai", "google-genai")
"""Whose versions a run notes: they can change answers or pixels."""
BATCH = 2000
"""Questions in one batch job: below the size limits of services with eight pictures each."""


def no_progress(what: str, done: int, total: int) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Options:
    """What a user chooses of a run.

    Attributes:
        folds: some of the benchmark's; all by default. limit: samples of each source and fold, 0 for all.
        reasoning: also ask for explanations, where the answer for metrics does not hold one.
        workers: processes that make clips, 0 for one a core.
        draws, seed: of the bootstrap.
        setting: ``zero-shot`` or ``fine-tuned`` (section 5.1), for the tables.
    """

    folds: tuple[int, ...] = ()
    limit: int = 0
    reasoning: bool = False
    workers: int = 0
    draws: int = 1000
    seed: int = 0
    setting: str = "zero-shot"


def evaluate(
    benchmark: Benchmark,
    respondent: Respondent | Mapping[int, Respondent],
    out: Path,
    options: Options | None = None,
    progress: Progress = no_progress,
    title: str = "",
    items: Sequence[Item] | None = None,
) -> Scores:
    """Test somebody; everything is written to ``out/BENCHMARK/NAME``.

    Args:
        respondent: one for all folds, or one for each fold (trained on the other folds), all of one name.
        out: folder of runs; clips are shared by the runs in it.
        title: the respondent's name in tables.
        items: the benchmark's samples, where they were read before.

    Raises:
        RunMismatch: the folder holds a run of another model or with other settings. UsageError, SourceLayout, ...
    """
    options = options or Options()
    by_fold = respondent if isinstance(respondent, Mapping) else {0: respondent}
    if items is None:
        items = read_items(benchmark, folds=options.folds, limit=options.limit)
    first = _alike(by_fold, items)
    folder = out / benchmark.name / first.name
    with locked(folder):
        about = _describe(benchmark, by_fold, items, options, title or first.name)
        _check_same(folder, about)
        clips = _make_clips(benchmark, first, items, out, options, progress)
        answers = _ask_all(benchmark, by_fold, items, clips, folder, out, options, progress)
        records = [_record(benchmark, item, clips, answers, _of(by_fold, item.fold).combined) for item in items]
        scores = score(benchmark, records, draws=options.draws, seed=options.seed)
        write_records(folder / RECORDS, records)
        write_atomic(folder / SCORES, json.dumps(scores.to_json(), indent=1) + "\n")
        write_atomic(folder / RUN, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return scores


def _of(by_fold: Mapping[int, Respondent], fold: int) -> Respondent:
    return by_fold[fold] if fold in by_fold else by_fold[0]


def _alike(by_fold: Mapping[int, Respondent], items: Sequence[Item]) -> Respondent:
    """One of the respondents, all of which see the same crops.

    Raises:
        UsageError: a fold without a respondent, or respondents of different kinds.
    """
    if 0 not in by_fold and (lacking := {item.fold for item in items} - set(by_fold)):
        raise UsageError(
            f"fold {min(lacking)} has no model: give --model {min(lacking)}=MODEL, or --fold to leave it out"
        )
    kinds = {(who.margin, who.crop, who.needs_media, who.combined, who.concurrency) for who in by_fold.values()}
    if len(kinds) > 1:
        raise UsageError("the models of the folds differ in kind or in how their faces are cut: test them apart")
    return next(iter(by_fold.values()))


def _describe(
    benchmark: Benchmark, by_fold: Mapping[int, Respondent], items: Sequence[Item], options: Options, title: str
) -> dict[str, Any]:
    """What determined the numbers. ``same`` is what must not change in a folder."""
    truth = [[i.sample.id, i.fold, i.sample.label, i.sample.known] for i in items]
    first = next(iter(by_fold.values()))
    protocol = dataclasses.asdict(benchmark)
    # where the data lies is not the protocol
    protocol["sources"] = [{**source, "root": ""} for source in protocol["sources"]]
    return {
        "same": {
            "benchmark": protocol,
            "respondent": first.name,
            "identities": {str(fold): who.identity for fold, who in by_fold.items()},
            "data": hashlib.sha256(json.dumps(truth).encode()).hexdigest()[:16],
            "preprocess": preprocess.fingerprint(_config(benchmark, first)),
        },
        "title": title,
        "setting": options.setting,
        "samples": len(items),
        "folds": list(options.folds),
        "limit": options.limit,
        "reasoning": options.reasoning,
        "bootstrap": {"draws": options.draws, "seed": options.seed},
        "version": facellava.__version__,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES if _installed(name)},
    }


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _check_same(folder: Path, about: Mapping[str, Any]) -> None:
    """Remember at the start what the folder is for, and refuse another run in it."""
    path = folder / "journal" / "same.json"
    now = json.loads(json.dumps(about["same"]))
    if path.is_file():
        before = read_json(path)
        if changed := [key for key in now if before.get(key) != now[key]]:
            raise RunMismatch(
                f"{folder} holds a run with other {' and '.join(changed)}: choose another --out or --name, or delete it"
            )
        return
    write_atomic(path, json.dumps(now, indent=1) + "\n")


# --- clips ---


def _config(benchmark: Benchmark, respondent: Respondent) -> PreprocessConfig:
    return PreprocessConfig(policy=benchmark.policy, margin=respondent.margin, crop=respondent.crop)


def _make_clips(
    benchmark: Benchmark,
    respondent: Respondent,
    items: Sequence[Item],
    out: Path,
    options: Options,
    progress: Progress,
) -> dict[str, Mapping[str, Any]]:
    """Sample id -> journal row with ``clip``, or ``code`` and ``message``; nothing for who looks at no face."""
    if not respondent.needs_media:
        return {}
    config, folder = _config(benchmark, respondent), out / CLIPS
    store, made_by = ClipStore(folder), preprocess.fingerprint(config)
    keys = {item.sample.id: preprocess.unit_key(item.sample, made_by) for item in items}
    with locked(folder), Journal(folder / "journal.jsonl") as journal:
        done = [k for k, row in journal.rows.items() if is_final(row) and (not row["clip"] or row["clip"] in store)]
        work = list(preprocess.jobs([item.sample for item in items], keys, done))
        total, count = sum(len(job.units) for job in work), 0
        for job, outcomes in LocalEngine(options.workers).run(preprocess.Preprocessor(folder, config), work):
            if isinstance(outcomes, WorkerDied):
                outcomes = [preprocess.Outcome(k, code="worker_died", message=str(outcomes)) for k in job.keys]
            for outcome in outcomes:
                journal.append(outcome.key, preprocess.outcome_row(outcome))
            count += len(outcomes)
            progress("faces", count, total)
        return {name: journal.rows[key] for name, key in keys.items()}


# --- answers ---


def _ask_all(
    benchmark: Benchmark,
    by_fold: Mapping[int, Respondent],
    items: Sequence[Item],
    clips: Mapping[str, Mapping[str, Any]],
    folder: Path,
    out: Path,
    options: Options,
    progress: Progress,
) -> dict[str, Mapping[str, Any]]:
    """Journal rows by ``purpose id``."""
    store = ClipStore(out / CLIPS)
    with Journal(folder / "journal" / "answers.jsonl") as journal:
        left = []
        for item in items:
            who = _of(by_fold, item.fold)
            if who.needs_media and not clips[item.sample.id]["clip"]:
                continue
            asked = PURPOSES if options.reasoning and not who.combined else PURPOSES[:1]
            for purpose in asked:
                key = _answer_key(purpose, item, clips)
                if key not in journal.rows or not is_final(journal.rows[key]):
                    left.append((key, who, _ask(benchmark, item, purpose), clips.get(item.sample.id)))
        # neighbours share a clip, so that a face is read once for all that is asked about it
        left.sort(key=lambda entry: (entry[3]["clip"] if entry[3] else "", entry[0]))
        for start in range(0, len(left), BATCH):
            _ask_together(left[start : start + BATCH], store, start, len(left), progress)
        for count, (key, row) in enumerate(_answered(left, store), 1):
            journal.append(key, row)
            progress("answers", count, len(left))
        return dict(journal.rows)


def _answer_key(purpose: str, item: Item, clips: Mapping[str, Mapping[str, Any]]) -> str:
    """Names an answer by what was asked about which crop: other pixels under the same id are another question."""
    made = clips.get(item.sample.id)
    return f"{purpose} {item.sample.id} {made['clip'] if made else ''}"


def _ask(benchmark: Benchmark, item: Item, purpose: Any) -> Ask:
    sample = item.sample
    return Ask(sample.id, benchmark.spec, benchmark.names_for(sample), sample.kind, purpose, item.fold)


Work = tuple[str, Respondent, Ask, Mapping[str, Any] | None]


def _ask_together(left: Sequence[Work], store: ClipStore, start: int, total: int, progress: Progress) -> None:
    """Let services that take batches answer before they are asked one by one."""
    for who in {id(w): w for _, w, _, _ in left}.values():
        if isinstance(who, TakesBatches) and who.batch:
            asks = ((ask, store.load(made["clip"])) for _, w, ask, made in left if w is who and made is not None)
            for count, _ in enumerate(who.ask_together(asks), 1):
                progress("batches", start + count, total)


def _answered(left: Sequence[Work], store: ClipStore) -> Iterator[tuple[str, dict[str, Any]]]:
    """(journal key, row) for all work, several at once where the respondent allows it."""
    width = max((who.concurrency for _, who, _, _ in left), default=1)
    if width == 1:
        loaded: tuple[str, FaceClip] | None = None
        for key, who, ask, made in left:
            clip = None
            if made is not None:
                if loaded is None or loaded[0] != made["clip"]:
                    loaded = made["clip"], store.load(made["clip"])
                clip = loaded[1]
            yield key, _answer(who, ask, lambda found=clip: found)
        return
    with ThreadPoolExecutor(width) as pool:
        waiting: dict[Any, str] = {}
        for key, who, ask, made in left:
            load = (lambda: None) if made is None else (lambda name=made["clip"]: store.load(name))
            waiting[pool.submit(_answer, who, ask, load)] = key
            if len(waiting) >= 4 * width:
                yield from _finished(waiting)
        while waiting:
            yield from _finished(waiting)


def _finished(waiting: dict[Any, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    try:
        for future in done:
            yield waiting.pop(future), future.result()
    except BudgetExceeded:
        for future in waiting:
            future.cancel()
        raise


def _answer(who: Respondent, ask: Ask, load: Callable[[], FaceClip | None]) -> dict[str, Any]:
    """The journal row of one answer, or of why there is none."""
    started = time.perf_counter()
    try:
        reply = who.answer(ask, load())
    except BudgetExceeded:
        raise  # ends the run and not the sample
    except FacellavaError as error:
        return {"code": error.code, "message": str(error)}
    return {**_reply_row(reply), "seconds": round(time.perf_counter() - started, 4)}


def _reply_row(reply: Reply) -> dict[str, Any]:
    row: dict[str, Any] = {"text": reply.text, "tokens": [reply.input_tokens, reply.output_tokens]}
    if reply.cut:
        row["cut"] = True
    if reply.prediction is not None:
        row["typed"] = dataclasses.asdict(reply.prediction)
    return row


# --- records ---


def _record(
    benchmark: Benchmark,
    item: Item,
    clips: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, Mapping[str, Any]],
    combined: bool,
) -> Record:
    sample, made = item.sample, clips.get(item.sample.id)
    common: dict[str, Any] = {
        "id": sample.id,
        "fold": item.fold,
        "media": sample.kind,
        "subject": sample.subject,
        "truth": sample.label,
        "known": sample.known,
        "groups": _groups(benchmark, item),
        "vote": benchmark.vote_of(sample),
        "clip": made["clip"] or "" if made else "",
    }
    if made is not None and not made["clip"]:
        return Record(**common, status="excluded", code=made["code"], message=_placeless(made["message"], sample))
    row = answers[_answer_key("metric", item, clips)]
    if "code" in row:
        return Record(**common, status="failed", code=row["code"], message=_placeless(row["message"], sample))
    reasoning = answers.get(_answer_key("reasoning", item, clips), {})
    typed = row.get("typed") or {}
    label = typed.get("label")
    text = row["text"]
    parsed = benchmark.spec.parse(text) if text is not None else None
    return Record(
        **common,
        text=text,
        parsed=None if parsed is None else getattr(parsed, benchmark.spec.field),
        outcome="" if parsed is None else parsed.outcome,
        cut=row.get("cut", False),
        reasoning=reasoning.get("text") or "",
        combined=combined,
        typed=tuple(label) if isinstance(label, list) else label,
        probabilities=typed.get("probabilities") or {},
        range=None if not typed.get("range") else (typed["range"][0], typed["range"][1]),
        abstained=typed.get("abstained", ""),
    )


def _placeless(message: str, sample: Sample) -> str:
    """A message without where the data lies on this machine."""
    return message.replace(str(sample.media.parent), "").replace(f"/{sample.media.name}", sample.media.name)


def _groups(benchmark: Benchmark, item: Item) -> dict[str, str]:
    found = {}
    for name, key in benchmark.groups.items():
        value = item.sample.label if key == "label" else item.sample.meta.get(key)
        if value is None or value == "":
            continue
        found[name] = age_group(float(str(value))) if name == "age_group" else str(value)
    return found


def age_group(years: float) -> str:
    """The group of an age, such as ``40-59``."""
    return next(f"{low}-{high}" for low, high in AGE_GROUPS if int(years) <= high)
