"""``facellava serve`` with the tiny model in place of the shipped one; a process of its own for tests.

    python serve_tiny.py FOLDER PACE [options of facellava serve]

PACE: seconds before every pass of the model; negative: scoring fails with words that must not be logged.
"""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "server"), str(TESTS / "runtime"), str(TESTS)]

import server_world  # noqa: E402

import facellava.analyzer  # noqa: E402
from facellava import cli  # noqa: E402


def fail(*_: object, **__: object) -> None:
    raise RuntimeError("SECRETWORD in an error")


def main(folder: str, pace: str, *options: str) -> int:
    analyzer = server_world.tiny_analyzer(Path(folder))
    paced = server_world.decoder(analyzer)
    paced.seconds, paced.never_ends = max(float(pace), 0.0), True
    if float(pace) < 0:
        analyzer.engine.score = fail
    facellava.analyzer.load = lambda *_, **__: analyzer
    return cli.run(["serve", *options])


sys.exit(main(*sys.argv[1:]))
