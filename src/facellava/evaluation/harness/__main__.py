"""Benchmarks for other people's harnesses, and their answers back.

python -m facellava.evaluation.harness lmms-eval BENCHMARK ... --root [SOURCE=]DIR --out DIR
python -m facellava.evaluation.harness vlmeval BENCHMARK ... --root [SOURCE=]DIR --out DIR
python -m facellava.evaluation.harness answers PREDICTIONS FILE
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from facellava.errors import FacellavaError
from facellava.evaluation.benchmark import Benchmark, load_benchmark


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the three; the exit code."""
    given = _parser().parse_args(arguments)
    try:
        given.run(given)
    except FacellavaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m facellava.evaluation.harness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True)
    for name, run, faces in (("lmms-eval", _lmms_eval, "whole"), ("vlmeval", _vlmeval, "crop")):
        verb = verbs.add_parser(name)
        verb.set_defaults(run=run)
        verb.add_argument("benchmark", nargs="+", help="shipped benchmarks' names, or TOML files")
        verb.add_argument("--root", action="append", default=[], metavar="[SOURCE=]DIR", help="your data; repeatable")
        verb.add_argument("--out", type=Path, required=True)
        verb.add_argument("--limit", type=int, default=0, help="samples of each source and fold")
        verb.add_argument("--faces", choices=("whole", "crop"), default=faces, help="default: %(default)s")
        verb.add_argument("--workers", type=int, default=0, help="processes that make crops; 0: one for each core")
        if name == "lmms-eval":
            verb.add_argument("--split-videos", action="store_true", help="frames instead of video files")
        else:
            verb.add_argument("--open", action="store_true", help="no options A, B, ...: the words of facellava eval")
            verb.add_argument("--paths", action="store_true", help="name pictures instead of embedding them")
    verb = verbs.add_parser("answers", help="predictions of VLMEvalKit -> file for --model answers:FILE")
    verb.set_defaults(run=_answers)
    verb.add_argument("predictions", type=Path)
    verb.add_argument("file", type=Path)
    return parser


def _loaded(name: str, roots: Sequence[str]) -> Benchmark:
    """The benchmark, with a folder for each of its own sources out of everybody's."""
    protocol = load_benchmark(name)
    found: dict[str, Path] = {}
    for text in roots:
        source, joint, folder = text.rpartition("=")
        wanted = [s.label for s in protocol.sources if not joint or source in (s.label, s.name)]
        found |= dict.fromkeys(wanted, Path(folder))
    return load_benchmark(name, found)


def _tell(name: str, count: str, left_out: Mapping[str, str]) -> None:
    print(f"{name}: {count}")
    if left_out:
        sample, why = next(iter(left_out.items()))
        print(f"{name}: {len(left_out)} samples left out, such as {sample}: {why}", file=sys.stderr)


def _lmms_eval(given: argparse.Namespace) -> None:
    from facellava.evaluation.harness.lmms_tasks import write_tasks

    chosen = [_loaded(name, given.root) for name in given.benchmark]
    written = write_tasks(
        chosen,
        given.out,
        limit=given.limit,
        faces=given.faces,
        split_videos=given.split_videos,
        workers=given.workers,
    )
    for name, left_out in written.items():
        _tell(name, f"written; lmms-eval --include_path {given.out} --tasks {name}", left_out)


def _vlmeval(given: argparse.Namespace) -> None:
    from facellava.evaluation.harness.vlmeval import export_vlmeval

    for name in given.benchmark:
        done = export_vlmeval(
            _loaded(name, given.root),
            given.out,
            limit=given.limit,
            choices=not given.open,
            faces=given.faces,
            embed=not given.paths,
            workers=given.workers,
        )
        _tell(done.name, f"{done.rows} rows in {done.path}", done.left_out)


def _answers(given: argparse.Namespace) -> None:
    from facellava.evaluation.harness.predictions import import_predictions

    print(f"{import_predictions(given.predictions, given.file)} answers in {given.file}")


if __name__ == "__main__":
    sys.exit(main())
