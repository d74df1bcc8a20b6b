"""Every command, program and recipe in README and docs does what it is there for, or says why it is not run here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import docs_blocks
import pytest
import typer.main
from docs_blocks import ROOT, Block, blocks_of, execute, pages, printed, read
from docs_world import FACES, furnish

from facellava.cli import app
from facellava.instruct.recipe import load_recipe as load_build
from facellava.runtime.build import BASE
from facellava.training.recipe import load_recipe as load_training

ALL = [block for page in pages() for block in read(page)]
ALIKE = 0.9
"""Of a console block's words. Not 1: another processor rounds 8-bit networks differently, and a label can tip."""


def named(blocks: list[Block]) -> list:
    return [pytest.param(block, id=block.where) for block in blocks]


def test_pages_and_blocks_are_found() -> None:
    text = (
        "a\n<!-- not run: a GPU -->\n\n```sh\nfacellava x\n```\n- b\n  ```\n  pip install y\n  ```\n```\nHello\n```\n"
    )
    first, second, third = blocks_of(text)
    assert (first.line, first.mark, first.why, first.can_run, first.runs_here) == (4, "not run", "a GPU", True, False)
    assert (second.code, second.is_shell, second.runs_here) == ("pip install y\n", True, True)
    assert not third.can_run
    assert {"README.md", "docs/start.md"} <= set(pages()) and len(ALL) > 40


def test_every_comment_before_a_block_is_understood() -> None:
    for page in pages():
        text = (ROOT / page).read_text(encoding="utf-8")
        said = len(re.findall(r"^ *<!-- (?:not run|run by)", text, re.MULTILINE))
        assert said == sum(bool(block.mark) for block in read(page)), f"{page}: a comment without a block after it"


@pytest.mark.parametrize("block", named([block for block in ALL if block.mark == "run by"]))
def test_blocks_run_elsewhere_really_are(block: Block) -> None:
    test = ROOT / block.why
    assert test.is_file(), f"{block.where}: there is no {block.why}"
    assert Path(block.page).name in test.read_text(encoding="utf-8"), f"{block.why} does not read {block.page}"


def test_blocks_that_are_not_run_need_a_reason_to_be_so() -> None:
    vague = [block.where for block in ALL if block.mark == "not run" and len(block.why.split()) < 2]
    assert not vague


def test_fences_are_closed_and_python_and_json_can_be_read() -> None:
    for block in ALL:
        assert "```" not in block.code, f"{block.where}: a fence is not closed"
        if block.language == "python":
            compile(block.code, block.where, "exec")
        if block.language == "json":
            json.loads(block.code)


def test_shell_blocks_can_be_parsed() -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    typed = [block for block in ALL if block.is_shell and block.language != "console"]
    script = "\n".join(f"_block_{n}() {{\n{block.code}\n}}" for n, block in enumerate(typed))
    done = subprocess.run([bash, "-n"], input=script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", named([block for block in ALL if block.language == "toml" and block.runs_here]))
def test_recipes_are_read_by_their_readers(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(block.code, encoding="utf-8")
    if "stages" in tomllib.loads(block.code):
        assert load_training(str(path)).stages
    else:
        (tmp_path / "faces").mkdir()
        assert load_build(str(path)).sources


# --- verbs and options, also of what is not run ---


def spoken(text: str) -> list[list[str]]:
    """The ``facellava ...`` commands of a text, in words, up to a pipe, a comment or another sign of the shell."""
    joined = re.sub(r"\\\n", " ", text)
    return [
        shlex.split(re.split(r"  +#| \|{1,2} | && |;|[<>&)]", line)[0].replace("`", ""), posix=False)
        for line in re.findall(r"(?<![\w./-])(?<!--model )facellava (?=[a-z-])[^\n`]*", joined)
    ]


def unknown(words: list[str]) -> list[str]:
    """Verbs and options that the command line does not have."""
    command, rest = typer.main.get_command(app), words[1:]
    while (verbs := getattr(command, "commands", None)) and rest and not rest[0].startswith("-"):
        verb = rest.pop(0)
        if verb not in verbs:
            return [verb]
        command = verbs[verb]
    options = {name for parameter in command.params for name in parameter.opts} | {"--help", "-h", "--version"}
    return [word for word in rest if re.match(r"--[a-z]", word) and word.split("=")[0] not in options]


@pytest.mark.parametrize("page", pages())
def test_verbs_and_options_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    typed = "\n".join(block.typed for block in read(page) if block.is_shell)
    prose = "\n".join(re.findall(r"`(facellava [a-z][^`\n]*)`", text))
    wrong = {" ".join(words): bad for words in spoken(typed + "\n" + prose) if (bad := unknown(words))}
    assert not wrong


def test_a_wrong_option_would_be_seen() -> None:
    assert unknown(["facellava", "analyze", "a.jpg", "--no-such"]) == ["--no-such"]
    assert unknown(["facellava", "data", "bake"]) == ["bake"]


# --- running them ---


def programs_of(page: str) -> list[Block]:
    """The blocks of a page that run here; recipes do not run, they are read above."""
    return [block for block in read(page) if block.runs_here and block.language != "toml"]


def run_blocks(blocks: list[Block], folder: Path) -> list[str]:
    """Run blocks in order in one folder, and tell which ran; a failing one says where it is and what it printed."""
    furnish(folder)
    ran = []
    for block in blocks:
        if "FACES" in block.code and not FACES.is_dir():
            pytest.skip("needs the open faces in the development data folder 'shared/'")
        if block.language == "console":
            check_console(block, folder)
        else:
            done = execute(block.language, block.code, folder)
            assert done.returncode == 0, f"{block.where}:\n{block.code}\n{printed(done)}"
        ran.append(block.where)
    return ran


def check_console(block: Block, folder: Path) -> None:
    """Commands succeed, and what the page shows of their output is what comes, but for numbers and a few words."""
    for command, documented in docs_blocks.commands(block.code):
        done = execute("sh", command, folder)
        seen = printed(done)
        assert done.returncode == 0, f"{block.where}: $ {command}\n{seen}"
        if not documented.strip():
            continue
        agreement = docs_blocks.alike(documented, seen)
        assert agreement >= ALIKE, f"{block.where}: $ {command}\n{seen}\nagrees with the page by {agreement:.2f}"


@pytest.fixture
def _weights() -> None:
    from facellava import weights
    from facellava.errors import WeightsUnavailable

    try:
        weights.resolve(BASE, offline=True)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the default weights: {error}")


@pytest.mark.usefixtures("_weights")
def test_the_readmes_python_runs(tmp_path: Path) -> None:
    programs = [block for block in programs_of("README.md") if block.language == "python"]
    assert programs
    assert run_blocks(programs, tmp_path) == [block.where for block in programs]


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.usefixtures("_weights")
@pytest.mark.parametrize("page", [page for page in pages() if programs_of(page)])
def test_every_block_of_the_page_runs(page: str, tmp_path: Path) -> None:
    assert run_blocks(programs_of(page), tmp_path) == [block.where for block in programs_of(page)]


def test_outputs_are_compared_by_their_words(tmp_path: Path) -> None:
    (block,) = blocks_of("```console\n$ printf 'took 3 s\\nhappiness\\n'\ntook 9.5 s\nhappiness\n```\n")
    check_console(block, tmp_path)
    with pytest.raises(AssertionError, match="agrees with the page by"):
        check_console(block._replace(code="$ echo one two\nthree four\n"), tmp_path)
