"""The command line: one file per verb. Heavy imports happen inside the verbs, so that ``--help`` is quick.

Every verb is a function that returns an exit code; this module owns options common to all, errors and signals.
"""

from __future__ import annotations

import codecs
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from facellava.cli._common import obstacles
from facellava.cli._common import report as report_error  # a verb is called report, too
from facellava.errors import FacellavaError, UsageError

__all__ = ["app", "main"]

_VERBS = (
    "analyze",
    "ask",
    "watch",
    "parse",
    "train",
    "convert",
    "ablate",
    "eval",
    "judge",
    "report",
    "serve",
    "doctor",
)
_GROUPS = ("data", "weights")

_INTERRUPTED = 130
_BROKEN_PIPE = 141
_COMPLETE = "_FACELLAVA_COMPLETE"
"""Set by a shell that asks what could come next; see ``facellava --install-completion``."""

# typer keeps its command-line errors private; BadParameter is public and two steps below their common ancestor
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="facellava",
    help="Describe the faces in pictures and videos, and say what the description rests on.",
    rich_markup_mode=None,  # plain help needs no import of rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from facellava import __version__

        typer.echo(f"facellava {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for _name in _VERBS:
    _module = importlib.import_module(f"facellava.cli.{_name}")
    app.command(_name)(getattr(_module, _name, None) or getattr(_module, f"{_name}_"))
for _name in _GROUPS:
    app.add_typer(importlib.import_module(f"facellava.cli.{_name}").app, name=_name)


def _invoke(arguments: list[str]) -> int:
    # not app(): that turns broken pipes and interrupts into exit codes and output of its own
    command = typer.main.get_command(app)
    try:
        with command.make_context("facellava", arguments or ["--help"]) as context:
            return command.invoke(context) or 0
    except typer.Exit as done:
        return done.exit_code


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see ``docs/exit-codes.md``."""
    try:
        with obstacles():
            code = _invoke(list(sys.argv[1:] if arguments is None else arguments))
            sys.stdout.flush()
        return code
    except FacellavaError as error:
        _settle_output()
        report_error(error)
        return error.exit_code
    except _CommandLineError as error:
        report_error(UsageError(getattr(error, "format_message", error.__str__)()))
        return UsageError.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("facellava: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        _give_up_output()
        return _BROKEN_PIPE


def _settle_output() -> None:
    """What was printed goes out before the error, unless that is what failed."""
    try:
        sys.stdout.flush()
    except OSError:
        _give_up_output()


def _give_up_output() -> None:
    """Keeps the interpreter from failing again when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_streams() -> None:
    """Closed standard streams lead nowhere; what the output's encoding lacks (half a surrogate pair, bytes of a file's
    name that are no UTF-8) is written as JSON escapes it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the whole program
    codecs.register_error("facellava-escape", _escaped)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # JSON is UTF-8 wherever it comes from
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="facellava-escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[n : n + 2]):04x}" for n in range(0, len(units), 2)), error.end


def main() -> None:
    """Entry point of the ``facellava`` program."""
    _open_streams()
    if _COMPLETE in os.environ:
        app(prog_name="facellava")  # answers the shell and ends
    sys.exit(run())
