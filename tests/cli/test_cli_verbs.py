"""The other verbs, signals, pipes, and how fast help is."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import facellava
from facellava.errors import FileMissing, UsageError, WeightsUnavailable
from facellava.weights import default_register

COMMAND = [sys.executable, "-m", "facellava"]
NAMES = [weight.name for weight in default_register()]


def test_version_and_help(run) -> None:
    assert run("--version") == (0, f"facellava {facellava.__version__}\n", "")
    code, out, _ = run("--help")
    assert code == 0
    for verb in ("analyze", "ask", "parse", "weights", "doctor"):
        assert verb in out


@pytest.mark.parametrize("verb", ["analyze", "ask", "parse", "weights", "doctor"])
def test_every_verb_explains_itself(run, verb: str) -> None:
    code, out, errors = run(verb, "--help")
    assert (code, errors) == (0, "")
    assert out.startswith(f"Usage: facellava {verb}")


def test_unknown_verb_is_one_line(run) -> None:
    code, out, errors = run("analyse")
    assert (code, out) == (UsageError.exit_code, "")
    assert errors.startswith("facellava: error: No such command 'analyse'")
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_help_takes_less_than_half_a_second() -> None:
    """Processor time, which is what it takes where nothing else runs; the best of five."""
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True, timeout=60)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(times) < 0.5, times


def test_ask_streams_the_answer(run, analyzer, picture: Path) -> None:
    assert run("ask", picture, "What is the mouth doing?") == (0, "Whatisthemouthdoing?\n", "")
    assert run("ask", picture, "one two three", "--max-new-tokens", "2")[1] == "onetwo\n"


def test_ask_takes_the_form_of_the_answer(run, analyzer, picture: Path, tmp_path: Path) -> None:
    pytest.importorskip("llguidance", reason="needs the structured extra")
    schema = tmp_path / "form.json"
    schema.write_text('{"type": "object", "properties": {"smiling": {"type": "boolean"}}, "required": ["smiling"]}')
    assert run("ask", picture, "Smiling?", "--schema", schema) == (0, "constrained: json\n", "")
    assert run("ask", picture, "Smiling?", "--choice", "yes", "--choice", "no") == (0, "constrained: choices\n", "")
    for wrong, code in (
        (("--schema", schema, "--choice", "yes"), UsageError.exit_code),
        (("--schema", tmp_path / "gone.json"), FileMissing.exit_code),
        (("--schema", picture), UsageError.exit_code),
    ):
        found, _, errors = run("ask", picture, "Smiling?", *wrong)
        assert found == code
        assert len(errors.splitlines()) == 1


def test_ask_errors(run, analyzer, picture: Path, tmp_path: Path) -> None:
    assert run("ask", tmp_path / "no.png", "What?")[0] == FileMissing.exit_code
    assert run("ask", tmp_path, "What?")[0] == FileMissing.exit_code
    code, _, errors = run("ask", picture, "What?", "--face", "4")
    assert (code, errors) == (UsageError.exit_code, "facellava: error: there is no face 4\n")
    assert run("ask", picture, "  ")[0] == UsageError.exit_code


def test_parse_adds_the_prediction(run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": 7, "text": "Happiness. The lip corners are raised."}, {"text": "It is raining."}]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(row) + "\n" for row in rows)))
    code, out, _ = run("parse", "--task", "expression")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {**rows[0], "label": "happiness"},
        {**rows[1], "label": None},
    ]


def test_parse_errors(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("not json\n"))
    code, _, errors = run("parse", "--task", "age")
    assert code == UsageError.exit_code
    assert "line 1" in errors
    assert run("parse", "--task", "mood")[0] == UsageError.exit_code


def test_weights_list(run) -> None:
    code, out, _ = run("weights", "list")
    assert code == 0
    assert len(out.splitlines()) == len(NAMES)
    code, out, _ = run("weights", "list", "--json")
    rows = json.loads(out)
    assert [row["name"] for row in rows] == NAMES
    for row in rows:
        assert row["state"] == "missing"
        assert len(row["sha256"]) == 64
        assert row["size"] > 0
        assert row["licence"]
        assert row["training_data"]
        assert row["sources"]


def test_weights_pull_offline_says_what_to_do(run) -> None:
    code, out, errors = run("weights", "pull", "face-mesh", "--offline")
    assert (code, out) == (WeightsUnavailable.exit_code, "")
    assert "face-mesh" in errors
    assert "FACELLAVA_WEIGHTS" in errors
    assert errors.count("\n") == 1


def test_weights_verify(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("weights", "verify", "--json")
    assert code == 0, "nothing was named, nothing is damaged"
    assert {row["state"] for row in json.loads(out)} == {"missing"}
    code, _, errors = run("weights", "verify", "face-mesh")
    assert code == WeightsUnavailable.exit_code
    assert "weights pull" in errors
    monkeypatch.setenv("FACELLAVA_WEIGHTS", str(tmp_path))
    (tmp_path / "face-mesh.tflite").write_bytes(bytes(default_register()["face-mesh"].size))
    code, out, errors = run("weights", "verify")
    assert code == 21
    assert "face-mesh.tflite" in errors
    assert "damaged" in out


def test_weights_unknown_name(run) -> None:
    for verb in ("pull", "verify"):
        code, _, errors = run("weights", verb, "face-mess")
        assert code == UsageError.exit_code
        assert "face-mesh" in errors


def test_doctor(run) -> None:
    code, out, _ = run("doctor", "--json")
    facts = json.loads(out)
    assert facts["facellava"] == facellava.__version__
    assert facts["cpu"]["cores"] >= 1
    assert facts["cache"]["path"] == os.environ["FACELLAVA_CACHE"]
    assert facts["cache"]["writable"]
    assert [row["name"] for row in facts["weights"]] == NAMES
    assert code == (facts["problems"][0]["exit_code"] if facts["problems"] else 0)
    text = run("doctor")[1]
    assert "weight    face-mesh: missing" in text


def test_doctor_names_the_problem_and_the_remedy(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACELLAVA_OFFLINE", "1")
    monkeypatch.setenv("FACELLAVA_WEIGHTS", str(tmp_path))
    (tmp_path / "face-mesh.tflite").write_bytes(b"short")
    code, out, _ = run("doctor", "--json")
    problems = {item["exit_code"]: item for item in json.loads(out)["problems"]}
    assert code in problems
    assert "face-mesh.tflite" in problems[21]["message"]
    assert "FACELLAVA_OFFLINE" in problems[20]["message"]
    assert "FACELLAVA_WEIGHTS" in problems[20]["todo"]


def test_reader_that_stops_early_gets_no_traceback() -> None:
    lines = json.dumps({"text": "Sadness."}) + "\n"
    process = subprocess.Popen(
        [*COMMAND, "parse", "--task", "expression"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.close()  # nobody reads
    process.stdout = None
    _, errors = process.communicate(lines * 5000, timeout=60)
    assert process.returncode == 141
    assert errors == ""


def test_interrupt_is_one_line() -> None:
    process = subprocess.Popen(
        [*COMMAND, "parse", "--task", "expression"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A parent that runs in the background may have told its children to ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write('{"text": "Fear."}\n' * 2000)  # more than a buffer: output shows that it is running
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "facellava: interrupted\n"


def outcome(*arguments: str | bytes, given: bytes = b"", **environment: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [*COMMAND, *arguments], input=given, capture_output=True, env={**os.environ, **environment}, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_names_that_are_no_text_and_paths_that_are_too_long_cost_one_line(tmp_path: Path) -> None:
    code, out, errors = outcome("analyze", "--json", b"x\xff.jpg", "y" * 300 + ".jpg", PYTHONIOENCODING="utf-8:strict")
    media = [json.loads(line) for line in out.splitlines()]
    assert [row["error"]["code"] for row in media] == ["file_missing"] * 2 and code == 3
    assert media[0]["media"] == "x\udcff.jpg" and b"File name too long" in errors and b"Traceback" not in errors


def test_an_empty_path_is_not_the_working_folder(run) -> None:
    code, _, errors = run("analyze", "")
    assert code == UsageError.exit_code and "an empty path" in errors


def test_half_letters_and_closed_streams_are_no_crash() -> None:
    half = outcome(
        "parse", "--task", "expression", given=b'{"text": "\\ud83d happy"}\n', PYTHONIOENCODING="utf-8:strict"
    )
    assert half[0] == 0 and json.loads(half[1]) == {"text": "\ud83d happy", "label": "happiness"}
    plain = outcome("parse", "--task", "expression", given='{"text": "happy 🙂"}\n'.encode(), PYTHONIOENCODING="ascii")
    assert plain[0] == 0 and plain[1].isascii() and json.loads(plain[1])["text"] == "happy 🙂"
    for line, code in (("weights list >&-", 0), ("parse --task age <&-", 0)):
        done = subprocess.run(f"{sys.executable} -m facellava {line}", shell=True, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (code, b"")
