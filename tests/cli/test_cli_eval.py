"""``facellava eval``, ``judge`` and ``report`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from build_world import draw, make_faces
from fault_server import FaultServer, text_of

from facellava.cli import run

TOML = """
name = "mine"
title = "Mine"
task = "age"
metrics = ["mae", "coverage"]
split = "train"
[[sources]]
name = "folder"
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACELLAVA_CACHE", str(tmp_path / "cache"))
    make_faces(tmp_path / "faces", images=3, videos=0)
    (tmp_path / "mine.toml").write_text(TOML)
    return tmp_path


def preset(folder: Path, server: FaultServer) -> str:
    path = folder / "served.toml"
    path.write_text(f'name = "served"\ntitle = "Served"\nkind = "openai"\nmodel = "m"\nbase_url = "{server.url}"\n')
    return str(path)


def test_from_a_benchmark_to_a_judged_report(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(body: dict) -> str:
        if "marks" in text_of(body):
            names = ("description_media", "description_label", "completeness")
            return json.dumps({"ratings": {name: 1 + draw(name, text_of(body)) % 10 for name in names}, "reason": "x"})
        return "40" if "nothing else" in text_of(body) else "40 years old. The skin is smooth."

    out = str(mine / "runs")
    with FaultServer(say) as server:
        arguments = ["eval", str(mine / "mine.toml"), "--root", str(mine / "faces"), "--out", out, "--reasoning"]
        assert run([*arguments, "--model", preset(mine, server), "--workers", "1", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["views"]["text"]["mae"]["value"] == pytest.approx((2 + 10 + 32 + 2) / 4, abs=8)
        assert found["answered"] == 4
        judging = ["judge", found["folder"], "--judge", "openai:j-1", "--base-url", server.url, "--out", out]
        assert run([*judging, "--estimate"]) == 0
        assert "calls: 4" in capsys.readouterr().out
        assert run([*judging, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["means"]["completeness.age"]["n"] == 4
    assert run(["report", out, "--out", str(mine / "report"), "--blur"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert "Served" in (mine / "report" / "report.html").read_text()


def test_trivial_guesses_by_group_in_words(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = mine / "mine.toml"
    toml.write_text(toml.read_text().replace('split = "train"', 'split = "train"\ngroups = { age_group = "label" }'))
    out = str(mine / "runs")
    arguments = ["eval", str(toml), "--root", f"folder={mine / 'faces'}", "--out", out, "--model", "trivial:"]
    assert run([*arguments, "--by", "age_group"]) == 0
    said = capsys.readouterr().out
    assert "Mine, majority class, mean age (does not look)" in said
    assert "MAE, years" in said
    assert "by age_group" in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["eval", "nothing"], 10, "not among the shipped benchmarks"),
        (["eval", "dfew"], 2, "source dfew has no root"),
        (["eval", "dfew", "--root", "nowhere"], 30, "The official layout is"),
        (["eval", "mine.toml", "--root", "faces", "--model", "gpt-9"], 10, "not among the shipped baselines"),
        (["eval", "mine.toml", "--root", "faces", "--model", "gpt-4o-mini"], 2, "OPENAI_API_KEY is not set"),
        (["eval", "mine.toml", "--root", "faces", "--model", "answers:none.jsonl"], 10, "none.jsonl is missing"),
        (["eval", "mine.toml", "--root", "faces", "--model", "1=trivial:", "--model", "trivial:"], 2, "FOLD=MODEL"),
        (["eval", "mine.toml", "--root", "faces", "--model", "trivial:", "--fold", "2"], 2, "has no folds"),
        (["judge", "faces", "--judge", "trivial:"], 2, "give KIND:MODEL"),
        (["report", "faces"], 10, "holds no finished run"),
    ],
)
def test_mistakes_are_one_line_with_their_exit_code(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int,
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(mine)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert run(arguments) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("facellava: error")]
    assert len(lines) == 1
    assert message in lines[0]
