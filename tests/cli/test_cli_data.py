"""``facellava data``: every verb once, JSON that parses, and one line with the right exit code for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer, text_of
from PIL import Image

from facellava.errors import (
    BudgetExceeded,
    BuildLocked,
    ConsentNeeded,
    EmptyDataset,
    FileMissing,
    LabelUnknown,
    SourceLayout,
    UsageError,
)
from facellava.instruct.journal import locked
from facellava.instruct.sources import all_sources

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Run = Callable[..., tuple[int, str, str]]
PLACES = {name: os.environ.get(name) for name in ("FACELLAVA_CACHE", "FACELLAVA_WEIGHTS")}
"""Where this machine keeps the front end's weights; the other tests of this folder have an empty cache."""
ROWS = (("happiness", 42), ("neutral", 30), ("surprise", 8))


@pytest.fixture
def weights(_own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of this machine."""
    for name, value in PLACES.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of one face, labelled for two tasks."""
    from skimage.data import astronaut

    root = tmp_path_factory.mktemp("faces")
    lines = ["file,subject,expression,age"]
    for number, (expression, age) in enumerate(ROWS):
        name = f"face{number}.png"
        Image.fromarray(astronaut()[: 300 + number, 80:380]).resize((240, 240)).save(root / name)
        lines.append(f"{name},person{number},{expression},{age}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def recipe(faces: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a recipe over the faces, with more TOML after it."""

    def write(more: str = "") -> Path:
        source = f'[[sources]]\nname = "folder"\nroot = "{faces}"\noptions = {{ redistribute = true }}\n'
        path = tmp_path / "recipe.toml"
        path.write_text(f'name = "small"\n{source}[test]\nper_task = 0\n{more}')
        return path

    return write


def service(url: str, more: str = "") -> str:
    """Annotator and rater at an address."""
    place = f'kind = "openai"\nbase_url = "{url}"\nmodel = "m-1"\n'
    return f"[annotate]\n{place}[rate]\n{place}{more}"


def error(result: tuple[int, str, str]) -> tuple[int, str]:
    """(exit code, the one line) of a failure."""
    code, out, errors = result
    assert out == ""
    assert errors.count("\n") == 1 and errors.startswith("facellava: error: "), errors
    return code, errors.removeprefix("facellava: error: ").strip()


def test_help_names_every_verb(run: Run) -> None:
    code, out, _ = run("data", "--help")
    assert code == 0
    for verb in ("sources", "check", "build", "plan", "export", "import"):
        assert f"\n  {verb} " in out
        code, text, errors = run("data", verb, "--help")
        assert (code, errors) == (0, "") and text.startswith(f"Usage: facellava data {verb}")


# --- sources, check ---


def test_sources(run: Run) -> None:
    code, out, _ = run("data", "sources", "--json")
    rows = json.loads(out)
    assert code == 0 and [row["name"] for row in rows] == list(all_sources())
    assert len(rows) >= 13 and all(row["licence"] and row["obtain"] and row["layout"] for row in rows)
    code, out, _ = run("data", "sources")
    assert code == 0
    for row in rows:
        assert f"\n{row['name']} " in f"\n{out}" and row["title"] in out and row["licence"] in out


def test_check_errors(run: Run, tmp_path: Path) -> None:
    code, line = error(run("data", "check", "celebb", "--root", tmp_path))
    assert code == UsageError.exit_code and "celebb" in line and "celeba" in line
    code, line = error(run("data", "check", "celeba", "--root", tmp_path, "--option", "x"))
    assert (code, line) == (UsageError.exit_code, "--option 'x': write it as KEY=VALUE")
    code, line = error(run("data", "check", "celeba"))
    assert code == UsageError.exit_code and "--root" in line


# --- build ---


def built(run: Run, recipe: Path, out: Path, *more: str) -> dict[str, Any]:
    code, text, errors = run("data", "build", "--recipe", recipe, "--out", out, "--workers", "1", "--json", *more)
    assert (code, errors) == (0, "")
    return json.loads(text)


@pytest.mark.usefixtures("weights")
def test_build_export_import(run: Run, recipe: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = built(run, recipe(), out)
    assert (found["read"], found["rows"], found["rejected"]) == (6, {"train": 6}, {})
    assert found["folder"] == str(out / "dataset") and found["statistics"]
    for form in ("llava", "sharegpt", "webdataset"):
        code, text, _ = run("data", "export", out / "dataset", "--format", form, "--out", tmp_path / form)
        assert (code, text) == (0, f"6 conversations in {tmp_path / form}\n")
        assert any((tmp_path / form).iterdir())
    joined = ("data", "export", out / "dataset", "--format", "sharegpt", "--multi-turn", "--out")
    turns = []
    for seed in ("0", "0", "1", "2"):
        code, text, _ = run(*joined, tmp_path / "joined", "--seed", seed)
        assert (code, text) == (0, f"3 conversations in {tmp_path / 'joined'}\n"), "both tasks of a face in one"
        turns.append({path.name: path.read_bytes() for path in (tmp_path / "joined").glob("*.json*")})
    assert turns[0] == turns[1] and len({str(files) for files in turns}) > 1, "the seed orders the turns"

    (file,) = (tmp_path / "llava").glob("train*.json")
    code, text, _ = run("data", "import", file, "--out", tmp_path / "back")
    assert (code, text) == (0, f"6 rows in {tmp_path / 'back'}\n")


@pytest.mark.usefixtures("weights")
def test_build_takes_sources_limits_and_roots_from_the_command_line(
    run: Run, recipe: Callable[..., Path], faces: Path, tmp_path: Path
) -> None:
    path = recipe()
    path.write_text(path.read_text().replace(f'root = "{faces}"\n', 'rename = "mine"\n'))
    words = ("--root", f"mine={faces}", "--only", "mine", "--limit", "2", "--workers", "1")
    code, text, errors = run("data", "build", "--recipe", path, "--out", tmp_path / "out", *words)
    assert (code, errors) == (0, "") and "2 samples read; rows: 2 train" in text and "report.html" in text


@pytest.mark.usefixtures("weights")
def test_plan_of_a_build(run: Run, recipe: Callable[..., Path], tmp_path: Path) -> None:
    built(run, recipe(), tmp_path / "out")
    words = ("data", "plan", "--build", tmp_path / "out", "--video-hours", "0")
    code, text, _ = run(*words, "--images", "1000", "--cores", "2", "--json")
    found = json.loads(text)
    assert code == 0 and found["measured"]["images"] == 3 and found["plan"]["samples"] == 1000
    seconds = found["measured"]["image_seconds"]
    assert found["plan"]["preprocess_hours"] == pytest.approx(1000 * seconds / 3600 / 2)
    code, text, _ = run(*words)
    assert code == 0 and "measured on 3 pictures" in text and "850,000" in text
    code, line = error(run("data", "plan", "--build", tmp_path / "out"))
    assert code == UsageError.exit_code and line.startswith("the measured build holds no video")
    assert error(run(*words, "--images", "-1"))[0] == UsageError.exit_code


def test_plan_prices(run: Run, tmp_path: Path) -> None:
    """1,000 pictures of 1,000 + 100 tokens each from the annotator and 2,000 + 50 from the rater."""
    journal = tmp_path / "journal"
    journal.mkdir()
    clip = {"key": "1", "clip": "c", "duration": 0.0, "seconds": 0.1, "bytes": 1}
    (journal / "preprocess.jsonl").write_text(json.dumps(clip) + "\n")
    for stage, tokens in (("annotate", (1000, 100)), ("rate", (2000, 50))):
        row = {"key": "1", "seconds": 1.0, "result": {"input_tokens": tokens[0], "output_tokens": tokens[1]}}
        (journal / f"{stage}.jsonl").write_text(json.dumps(row) + "\n")
    words = ("data", "plan", "--build", tmp_path, "--images", "1000", "--video-hours", "0", "--json")
    prices = ("--price-input", "2", "--price-output", "10")

    def money(*more: str) -> float:
        return json.loads(run(*words, *more)[1])["plan"]["money"]

    assert money() == 0
    # (1 M + 2 M) x 2 + (0.1 M + 0.05 M) x 10
    assert money(*prices) == pytest.approx(7.5)
    # 1 M x 2 + 0.1 M x 10 + 2 M x 1 + 0
    assert money(*prices, "--rater-price-input", "1", "--rater-price-output", "0") == pytest.approx(5.0)


BROKEN = {
    'name = "x': "is no valid TOML",
    'name = "x"': "'sources' is missing",
    'name = "x"\nsources = []\ncolour = 1': "unknown key 'colour'; known: annotate, budget",
    'name = "x"\nsources = [{ name = "folder" }]': "source folder has no root: add --root folder=DIR",
    'name = "x"\nsources = [{ name = "folder", root = "." , limit = "all" }]': "limit is 'all', but must be an int",
    'name = "x"\nsources = [{ name = "folders", root = "." }]': "folders",
    'name = "x"\nsources = [{ name = "folder", root = "." }]\nannotate = { kind = "magic" }': "kind is 'magic'; known:",
    'name = "x"\nsources = [{ name = "folder", root = "." }]\nannotate = { kind = "rules" }': (
        "annotate.kind is 'rules'; without a service it can be evidence, experts or recorded"
    ),
    'name = "x"\nsources = [{ name = "folder", root = "." }]\nrate = { kind = "evidence" }': (
        "rate.kind is 'evidence'; without a service it can be rules"
    ),
    'name = "x"\nsources = [{ name = "folder", root = "." }]\nrate = { kind = "gemini" }': "rate.model is missing",
    'name = "x"\nsources = [{ name = "folder", root = "." }]\nannotate = { kind = "evidence", attempts = 0 }': (
        "annotate.attempts is 0"
    ),
}


@pytest.mark.parametrize("text", BROKEN)
def test_broken_recipes(run: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    code, line = error(run("data", "build", "--recipe", path, "--out", tmp_path / "out"))
    assert code == UsageError.exit_code and BROKEN[text] in line


def test_build_usage_errors(run: Run, recipe: Callable[..., Path], tmp_path: Path) -> None:
    words = ("data", "build", "--recipe", recipe(), "--out", tmp_path / "out")
    for more, says in (
        (("--root", "folder"), "--root 'folder': write it as KEY=VALUE"),
        (("--root", "celeba=/x"), "--root celeba: the recipe has no such source; it has folder"),
        (("--only", "celeba"), "--only celeba"),
        (("--engine", "magic"), "--engine"),
        (("--limit", "-3"), "--limit"),
    ):
        code, line = error(run(*words, *more))
        assert code == UsageError.exit_code and says in line
    code, line = error(run("data", "build", "--recipe", "nope", "--out", tmp_path / "out"))
    assert code == FileMissing.exit_code and "the shipped recipes: faceinstruct-1m" in line
    assert error(run("data", "build", "--out", tmp_path / "out"))[0] == UsageError.exit_code


def test_build_of_a_wrong_copy(run: Run, recipe: Callable[..., Path], faces: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = ("data", "build", "--recipe", recipe(), "--out", tmp_path / "out", "--root")
    code, line = error(run(*words, f"folder={tmp_path / 'empty'}"))
    assert code == SourceLayout.exit_code and "labels.csv" in line
    (tmp_path / "empty" / "labels.csv").write_text("file,expression\nface0.png,glad\n")
    code, line = error(run(*words, f"folder={tmp_path / 'empty'}"))
    assert code == LabelUnknown.exit_code and "line 2" in line and "'glad'" in line
    (tmp_path / "empty" / "labels.csv").write_text("file,expression\n")
    code, line = error(run(*words, f"folder={tmp_path / 'empty'}"))
    assert code == UsageError.exit_code and "hold no sample" in line


@pytest.mark.usefixtures("weights")
def test_build_that_keeps_nothing(run: Run, recipe: Callable[..., Path], tmp_path: Path) -> None:
    path = recipe("[filter]\nthreshold = 10\n")
    code, line = error(run("data", "build", "--recipe", path, "--out", tmp_path / "out"))
    assert code == EmptyDataset.exit_code and line.startswith("no sample is left of 6: ")
    assert (tmp_path / "out" / "dataset" / "rejections.jsonl").read_text().count("\n") == 6


def test_build_in_a_locked_folder(run: Run, recipe: Callable[..., Path], tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        code, line = error(run("data", "build", "--recipe", recipe(), "--out", tmp_path / "out"))
    assert code == BuildLocked.exit_code and f"process {os.getpid()}" in line


def test_build_asks_before_faces_leave(run: Run, recipe: Callable[..., Path], tmp_path: Path) -> None:
    path = recipe(service("https://api.example.com/v1"))
    code, line = error(run("data", "build", "--recipe", path, "--out", tmp_path / "out"))
    assert code == ConsentNeeded.exit_code and "--send-media-to api.example.com" in line
    words = ("data", "build", "--recipe", path, "--out", tmp_path / "out", "--send-media-to")
    assert error(run(*words, "example.com"))[0] == ConsentNeeded.exit_code, "another host is another host"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """Knows one answer to every question about these faces."""

    def act(body: dict[str, Any]) -> str:
        text = text_of(body)
        if "four marks" in text:
            names = ("label_accuracy", "description_media", "description_label", "overall")
            return json.dumps({"ratings": dict.fromkeys(names, 9), "reason": "by rule"})
        label = json.loads(text.split('{"label": ')[1].split(', "reason"')[0])
        reason = f"{label} years old. The skin and the hair speak for it."
        return json.dumps(
            {"label": label, "reason": reason if isinstance(label, int) else f"A look of {label} is seen."}
        )

    with FaultServer(act) as found:
        yield found


@pytest.mark.usefixtures("weights")
def test_estimate_then_budget_then_build(
    run: Run, recipe: Callable[..., Path], server: FaultServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    path = recipe(service(server.url, "[budget]\ntokens = 3000\n"))
    code, text, _ = run("data", "build", "--recipe", path, "--out", out, "--estimate", "--json")
    found = json.loads(text)
    assert code == 0 and found["samples"] == found["annotate_calls"] == found["rate_calls"] == 6
    assert not server.seen, "an estimate asks nobody"
    assert run("data", "build", "--recipe", path, "--out", out, "--estimate")[1].startswith("samples: 6\n")
    code, line = error(run("data", "build", "--recipe", path, "--out", out))
    assert code == BudgetExceeded.exit_code and "raise the cap in [budget]" in line
    assert 0 < len(server.served) < 12
    found = built(run, recipe(service(server.url)), out)
    assert found["rows"] == {"train": 6} and len(server.served) == 12, "what was paid for is not paid again"


# --- export, import ---


def test_export_and_import_errors(run: Run, tmp_path: Path) -> None:
    code, line = error(run("data", "export", tmp_path, "--format", "pickle", "--out", tmp_path / "x"))
    assert code == UsageError.exit_code and "unknown format 'pickle'; known: llava" in line
    code, _ = error(run("data", "export", tmp_path, "--format", "llava", "--out", tmp_path / "x"))
    assert code == FileMissing.exit_code and not (tmp_path / "x").exists()
    code, _ = error(run("data", "import", tmp_path / "gone.json", "--out", tmp_path / "y"))
    assert code == FileMissing.exit_code
    (tmp_path / "bad.json").write_text('{"a": 1}')
    code, line = error(run("data", "import", tmp_path / "bad.json", "--out", tmp_path / "y"))
    assert code == UsageError.exit_code and "must be a JSON list" in line


def test_plan_errors(run: Run, tmp_path: Path) -> None:
    code, line = error(run("data", "plan", "--build", tmp_path / "gone"))
    assert code == FileMissing.exit_code and "run 'facellava data build'" in line


def test_the_program_itself(tmp_path: Path) -> None:
    """In a process of its own: standard output holds the JSON and nothing else, a mistake ends with its code."""
    command = [sys.executable, "-m", "facellava", "data"]
    done = subprocess.run([*command, "sources", "--json"], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) and done.stderr == ""
    done = subprocess.run(
        [*command, "plan", "--build", tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (FileMissing.exit_code, "") and done.stderr.count("\n") == 1


@pytest.mark.usefixtures("weights")
def test_a_recipe_is_changed_from_the_command_line(run: Run, recipe: Callable[..., Path], tmp_path: Path) -> None:
    changes = ("--set", "filter.enabled=false", "--set", "test.per_task=0", "--workers", "1")
    code, _, errors = run("data", "build", "--recipe", recipe(), "--out", tmp_path / "b", *changes)
    assert (code, errors) == (0, "")
    written = json.loads((tmp_path / "b" / "dataset" / "recipe.json").read_text())
    assert written["filter"]["enabled"] is False
    words = ("data", "build", "--recipe", recipe(), "--out", tmp_path / "c", "--set", "filter.on=1")
    code, line = error(run(*words))
    assert code == UsageError.exit_code and "unknown key 'on'" in line
