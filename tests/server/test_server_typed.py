"""Analyses, scores, and what the server says about itself."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from server_world import Running, chat, data_url, error_of, picture, picture_url, png, serving, two_faces, video

import default_model
import facellava.server
from facellava import errors
from facellava.analyzer import Analyzer
from facellava.cli.serve import serve
from facellava.notice import TEXT
from facellava.server.settings import Bounds

DOCS = Path(__file__).parents[2] / "docs"


def schema() -> dict:
    text = (DOCS / "output.md").read_text(encoding="utf-8")
    found = re.search(r"```json schema\n(.*?)```", text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_an_analysis_is_the_analyzers(usual: Running, model: Analyzer) -> None:
    response = usual.http.post("/v1/analyze", files={"file": ("holiday/me.png", picture())})
    found = response.json()
    jsonschema.validate(found, schema())
    seconds = found.pop("seconds")
    assert set(seconds) == {"queue", "faces", "answers", "total"}
    assert found == model.analyze(picture()).to_dict() | {"media": "me.png"}


def test_an_analysis_as_json(usual: Running, model: Analyzer) -> None:
    body = {"media": data_url(two_faces()), "tasks": ["age", "expression"], "explain": False, "name": "two.png"}
    found = usual.http.post("/v1/analyze", json=body).json()
    expected = model.analyze(two_faces(), tasks=["age", "expression"], explain=False).to_dict()
    del found["seconds"]
    assert found == expected | {"media": "two.png"}
    assert len(found["faces"]) == 2


def test_an_analysis_by_form(usual: Running) -> None:
    for tasks in (["age", "deepfake"], ["deepfake,age"]):
        fields = {"tasks": tasks, "explain": "false", "policy": "all"}
        (face,) = usual.http.post("/v1/analyze", data=fields, files={"file": ("a.png", picture())}).json()["faces"]
        assert list(face["tasks"]) == ["age", "deepfake"]


def test_movements_only(usual: Running) -> None:
    fields = {"mode": "movements", "explain": "false"}
    (face,) = usual.http.post("/v1/analyze", data=fields, files={"file": ("a.png", picture())}).json()["faces"]
    assert list(face["tasks"]) == ["action_units"]
    response = usual.http.post("/v1/analyze", data=fields | {"tasks": "age"}, files={"file": ("a.png", picture())})
    assert (response.status_code, error_of(response)["code"]) == (400, "usage")


def test_policy_paper_and_videos(usual: Running) -> None:
    body = {"media": data_url(two_faces()), "policy": "paper", "explain": False}
    response = usual.http.post("/v1/analyze", json=body)
    assert (response.status_code, error_of(response)["code"]) == (422, "several_faces")
    found = usual.http.post("/v1/analyze", json={"media": data_url(video()), "tasks": ["age"], "explain": False}).json()
    assert found["kind"] == "video"
    jsonschema.validate(found, schema())


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"tasks": "mood"}, None), ({"mode": "loud"}, "mode"), ({"explain": "perhaps"}, "explain"), ({"x": "y"}, "x")],
)
def test_analyses_that_make_no_sense(usual: Running, fields: dict, param: str | None) -> None:
    response = usual.http.post("/v1/analyze", data=fields, files={"file": ("a.png", picture())})
    assert response.status_code == 400
    assert error_of(response)["param"] == param


def test_scores_are_the_engines(usual: Running, model: Analyzer) -> None:
    body = {"media": picture_url(), "question": "Smiling?", "options": ["yes", "no", "perhaps"]}
    found = usual.http.post("/v1/score", json=body).json()
    seen = model.engine.look(model.clips(picture())[1][0])
    expected = model.engine.score(seen, "Smiling?", "", ["yes", "no", "perhaps"])
    shares = [row["probability"] for row in found["options"]]
    np.testing.assert_allclose(shares, expected, atol=1e-5)
    assert [row["option"] for row in found["options"]] == body["options"]
    assert found["best"] == body["options"][int(np.argmax(expected))]
    prefixed = usual.http.post("/v1/score", json=body | {"prefix": "The answer is"}).json()
    expected = model.engine.score(seen, "Smiling?", "The answer is", [" yes", " no", " perhaps"])
    np.testing.assert_allclose([row["probability"] for row in prefixed["options"]], expected, atol=1e-5)


def test_an_option_that_begins_another_is_told_apart(usual: Running, model: Analyzer) -> None:
    options = ["yes", "yes, a little", "no"]
    body = {"media": picture_url(), "question": "Smiling?", "options": options}
    found = {row["option"]: row["probability"] for row in usual.http.post("/v1/score", json=body).json()["options"]}
    seen = model.engine.look(model.clips(picture())[1][0])
    p = dict(zip(options, model.engine.score(seen, "Smiling?", "", options), strict=True))
    rest = p["yes"] + p["no"]
    assert found["yes"] == pytest.approx((p["yes"] - p["yes, a little"]) / rest, abs=1e-5)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"options": ["yes"]},
        {"options": ["yes", "yes"]},
        {"options": ["yes", " "]},
        {"options": ["yes", ""]},
        {"options": ["\u4f60", "\u597d"]},
        {"options": [f"option {n}" for n in range(65)]},
        {"options": ["x" * 400, "y" * 400, "z" * 400]},
        {"question": " "},
        {"question": "x" * 400},
        {"face": 5},
        {"extra": 1},
    ],
)
def test_scores_that_make_no_sense(usual: Running, change: dict) -> None:
    body = {"media": picture_url(), "question": "Smiling?", "options": ["yes", "no"], **change}
    response = usual.http.post("/v1/score", json=body)
    assert response.status_code == 400
    error_of(response)


def test_models(usual: Running, model: Analyzer) -> None:
    (listed,) = usual.openai.models.list().data
    assert listed.id == model.name
    card = usual.openai.models.retrieve("facellava").model_dump()
    assert card["license"]
    assert card["responsible_use"]["notice"] == TEXT
    assert "work" in " ".join(card["responsible_use"]["not_for"])
    assert usual.http.get("/v1/models/gpt-4o").status_code == 404


def test_measures(usual: Running) -> None:
    usual.ask(max_tokens=3)
    text = usual.http.get("/metrics").text
    for name in ("facellava_request_seconds_bucket", "facellava_tokens_total", "facellava_queue_seconds_sum"):
        assert name in text
    before = usual.measure("facellava_requests_total", route="other", status="404")
    for path in ("/nothing", "/v1/nothing", "/v1/files/x/y"):
        response = usual.http.get(path)
        assert (response.status_code, error_of(response)["code"]) == (404, "not_found")
    assert usual.measure("facellava_requests_total", route="other", status="404") == before + 2
    assert usual.http.put("/v1/score").status_code == 405


def test_the_documentation_asks_nobody_else(usual: Running) -> None:
    page = usual.http.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert not re.findall(r"(?:src|href)=.?(?:https?:)?//", page.text)
    assert "/v1/chat/completions" in page.text
    interface = usual.http.get("/openapi.json").json()
    assert set(interface["paths"]) == {
        "/v1/chat/completions",
        "/v1/analyze",
        "/v1/score",
        "/v1/landmarks",
        "/v1/timeline",
        "/v1/why",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/files",
        "/v1/files/{name}",
        "/healthz",
        "/metrics",
    }


def test_answers_are_not_stored_by_anybody(usual: Running) -> None:
    response = usual.ask(max_tokens=1)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert len(response.headers["x-request-id"]) == 16
    assert "server" not in response.headers


@pytest.mark.slow
def test_the_shipped_default() -> None:
    model, portrait = default_model.analyzer(), png(default_model.astronaut())
    with serving(model) as running:
        request = chat("What is the mouth doing?", max_tokens=60)
        request["messages"][0]["content"][0]["image_url"]["url"] = data_url(portrait)
        answer = running.http.post("/v1/chat/completions", json=request).json()["choices"][0]
        assert answer["message"]["content"] == model.ask(portrait, "What is the mouth doing?", max_new_tokens=60)
        assert answer["finish_reason"] == "stop"
        found = running.http.post("/v1/analyze", files={"file": ("a.png", portrait)}).json()
        del found["seconds"]
        assert found == model.analyze(portrait).to_dict() | {"media": "a.png"}
        assert found["faces"][0]["tasks"]["expression"]["label"] == "happiness"


# --- docs/server.md says what the program does ---

GUIDE = (DOCS / "server.md").read_text(encoding="utf-8")


def test_every_limit_is_documented() -> None:
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", GUIDE, re.MULTILINE))))
    limits = {name: getattr(Bounds(), name) for name in Bounds.__dataclass_fields__}
    assert set(limits) <= named
    for name, value in limits.items():
        row = next(
            line for line in GUIDE.split("## Limits")[1].splitlines() if re.match(rf"\| (?:`\w+`, )?`{name}`", line)
        )
        shown = f"{value // 2**20} MiB" if value % 2**20 == 0 and value else f"{value:,.0f}"
        assert shown in row, (name, shown)


def test_every_code_is_documented() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(facellava.server.__file__).parent.glob("*.py"))
    codes = set(re.findall(r'(?:Problem\(\s*\d+,|busy\()\s*"([a-z_]+)"', source)) | {"not_found", "method_not_allowed"}
    ours = {getattr(errors, name).code for name in errors.__all__}
    table = set(re.findall(r"`([a-z_]+)`", GUIDE.split("codes of the server")[1].split("Of the model's own codes")[0]))
    assert table == codes - ours


def test_every_option_is_one() -> None:
    known: set[str] = set()
    for file in ("src/facellava/cli/serve.py", "src/facellava/cli/analyze.py", "benchmarks/load.py"):
        known |= set(re.findall(r"--[a-z-]+", (DOCS.parent / file).read_text(encoding="utf-8")))
    known |= {f"--{name.replace('_', '-')}" for name in inspect.signature(serve).parameters}
    assert set(re.findall(r"--[a-z][a-z-]*", GUIDE)) <= known


def test_the_guides_python_works(usual: Running, tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert code
    (tmp_path / "photo.jpg").write_bytes(picture())
    script = code[1].replace("http://127.0.0.1:8000", usual.url)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_guides_commands_work(usual: Running, tmp_path: Path) -> None:
    if shutil.which("curl") is None or shutil.which("base64") is None:
        pytest.skip("needs curl and base64")
    (tmp_path / "photo.jpg").write_bytes(picture())
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in fenced if not language and "curl" in block]
    assert len(blocks) == 5
    for block in blocks:
        script = block.replace("http://127.0.0.1:8000", usual.url)
        done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found.get("error") is None, found
