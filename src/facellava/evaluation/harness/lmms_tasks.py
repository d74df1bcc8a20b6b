"""Our benchmarks as tasks of lmms-eval: a folder each, with a YAML, the samples and a module that counts as we do.

lmms-eval finds them with ``--include_path``. Interface: its task guide,
https://github.com/EvolvingLMMs-Lab/lmms-eval/blob/main/docs/guides/task_guide.md
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facellava.errors import UsageError
from facellava.evaluation.benchmark import Benchmark, Item, read_items
from facellava.evaluation.harness.lmms_scoring import BENCHMARK, SAMPLES, identifier, metric_names
from facellava.evaluation.harness.pictures import Faces, Shown, show
from facellava.evaluation.harness.questions import own_question, question, unanswered
from facellava.evaluation.records import record_to_json
from facellava.evaluation.respondents.own import LONGER
from facellava.evaluation.respondents.service import FRAMES
from facellava.files import write_atomic
from facellava.instruct.prompts import label_text

PREFIX = "facellava_"
TAG = "facellava"
MODEL = "facellava"
"""Our models' name in lmms-eval; they are asked the question that they were trained on."""
MAX_TOKENS = 64 * LONGER
LOWER_IS_BETTER = ("mae", "bias", "ece", "brier")

UTILS = '''"""Written by facellava for lmms-eval: answers are read and counted by facellava itself."""

from pathlib import Path

from facellava.evaluation.harness.lmms_scoring import HarnessTask

_task = HarnessTask(Path(__file__).parent)
doc_to_visual, doc_to_text, process_results = _task.doc_to_visual, _task.doc_to_text, _task.process_results
'''


def write_tasks(
    benchmarks: Sequence[Benchmark],
    out: Path,
    *,
    limit: int = 0,
    faces: Faces = "whole",
    split_videos: bool = False,
    workers: int = 1,
) -> dict[str, dict[str, str]]:
    """One task folder ``out/facellava_NAME`` for each benchmark, replacing what an earlier call wrote there.

    Args:
        benchmarks: with the roots of their sources (``load_benchmark(name, roots)``).
        limit: at most so many samples of each source and fold, 0 for all.
        faces: ``whole`` media, in which our models look for the face themselves, or the ``crop`` that ``facellava
            eval`` shows to others.
        split_videos: frames instead of video files, for models that read pictures only.
        workers: processes that make crops, 0 for one a core.

    Returns:
        Task -> sample id -> why it could not be shown; such samples are not in the task.

    Raises:
        UsageError: nothing is left of a benchmark. SourceLayout, LabelUnknown: of the readers.
    """
    left_out: dict[str, dict[str, str]] = {}
    for benchmark in benchmarks:
        folder = out / f"{PREFIX}{benchmark.name}"
        items = read_items(benchmark, limit=limit)
        if folder.is_dir() and (folder / BENCHMARK).is_file():
            shutil.rmtree(folder)
        pictures = show(
            [item.sample for item in items],
            folder / "pictures",
            faces=faces,
            policy=benchmark.policy,
            split_videos=split_videos,
            workers=workers,
        )
        if not pictures.found:
            reason = next(iter(pictures.left_out.values()))
            raise UsageError(f"{benchmark.name}: none of {len(items)} samples can be shown; the first: {reason}")
        rows = [_row(benchmark, i, pictures.found[i.sample.id], folder) for i in items if i.sample.id in pictures.found]
        _write(benchmark, folder, rows)
        left_out[folder.name] = pictures.left_out
    return left_out


def _row(benchmark: Benchmark, item: Item, shown: Shown, folder: Path) -> dict[str, Any]:
    sample = item.sample
    files = [f.relative_to(folder) if f.is_relative_to(folder) else f for f in shown.files]
    return {
        "id": sample.id,
        "question": question(benchmark, item, FRAMES if shown.is_video else len(files)),
        "own_question": own_question(benchmark, item),
        "files": [f.as_posix() for f in files],
        "is_video": shown.is_video,
        "target": label_text(benchmark.task, sample.label),
        # text, because a table has one type a column and labels differ in theirs
        "record": json.dumps(record_to_json(unanswered(benchmark, item)), ensure_ascii=False),
    }


def _write(benchmark: Benchmark, folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    anywhere = [dataclasses.replace(source, root="") for source in benchmark.sources]
    protocol = dataclasses.asdict(dataclasses.replace(benchmark, sources=tuple(anywhere)))
    write_atomic(folder / BENCHMARK, json.dumps(protocol, indent=1, ensure_ascii=False) + "\n")
    write_atomic(folder / SAMPLES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    counted = "".join(f'{identifier(name)} = _task.metric("{name}")\n' for name in metric_names(benchmark))
    write_atomic(folder / "utils.py", UTILS + counted)
    write_atomic(folder / f"{folder.name}.yaml", task_yaml(benchmark, (folder / SAMPLES).resolve()))


def task_yaml(benchmark: Benchmark, samples: Path) -> str:
    """The task's description. Texts are quoted as JSON, which YAML reads too.

    Args:
        samples: absolute, because 0.7 and earlier take no path relative to the YAML.
    """
    lines = [
        f"task: {json.dumps(PREFIX + benchmark.name)}",
        f"tag: {json.dumps(TAG)}",
        "dataset_path: json",
        "dataset_kwargs:",
        "  data_files:",
        f"    test: {json.dumps(str(samples))}",
        "test_split: test",
        "output_type: generate_until",
        "doc_to_visual: !function utils.doc_to_visual",
        "doc_to_text: !function utils.doc_to_text",
        "doc_to_target: target",
        "lmms_eval_specific_kwargs:",
        "  default:",
        "    asked: question",
        f"  {MODEL}:",
        "    asked: own_question",
        "generation_kwargs:",
        f"  max_new_tokens: {MAX_TOKENS}",
        "  do_sample: false",
        "  temperature: 0",
        "  until: []",
        "process_results: !function utils.process_results",
        "metric_list:",
    ]
    for name in metric_names(benchmark):
        lines += [
            f"  - metric: {json.dumps(name)}",
            f"    aggregation: !function utils.{identifier(name)}",
            f"    higher_is_better: {json.dumps(name not in LOWER_IS_BETTER)}",
        ]
    lines += ["metadata:", "  version: 1", f"  description: {json.dumps(benchmark.title)}"]
    return "\n".join(lines) + "\n"
