"""The real command line over small things: what the rows of faults.toml start, each in a process of its own.

python drive.py pull REGISTER      facellava weights pull, with a register of small files
python drive.py model SOURCE GGUF  build the runnable model of a tiny difference
python drive.py analyze ...        facellava analyze, with an analyzer that decodes files but runs no network
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from facellava import cli
from facellava.cli._common import obstacles, report
from facellava.errors import FacellavaError


def pull(register: str) -> int:
    from facellava import weights
    from facellava.weights import resolver

    found = weights.Register.read(Path(register))
    weights.default_register = resolver.default_register = lambda: found
    return cli.run(["weights", "pull", "one"])


def model(source: str, gguf: str) -> int:
    from facellava.files import cache_dir
    from facellava.runtime.build import ensure_built

    try:
        with obstacles():
            ensure_built(Path(source), cache_dir(), lambda _: Path(gguf))
    except FacellavaError as error:
        report(error)
        return error.exit_code
    return 0


def analyze(*arguments: str) -> int:
    import cli_world

    import facellava.analyzer

    facellava.analyzer.load = lambda *_, **__: cli_world.StandIn()
    return cli.run(["analyze", *arguments])


if __name__ == "__main__":
    sys.exit({"pull": pull, "model": model, "analyze": analyze}[sys.argv[1]](*sys.argv[2:]))
