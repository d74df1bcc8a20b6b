"""``facellava doctor --model``: what of a model fits where."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="needs the torch extra")

TEXT = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300}  # fmt: skip
SHORT = {"max_position_embeddings": 5}
VISION = {"kind": "clip", "width": 16, "layers": 2, "heads": 2, "mlp": 32, "patch": 4, "image_size": 12, "frames": 3}


def folder(path: Path, **changes: object) -> Path:
    path.mkdir()
    config = {"model_type": "facellava", "vision": VISION, "fusion": {}, "text_config": TEXT, **changes}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_the_papers_model(run) -> None:
    code, out, _ = run("doctor", "--model", "paper-7b", "--json")
    facts = json.loads(out)
    assert code == (facts["problems"][0]["exit_code"] if facts["problems"] else 0)
    model = facts["model"]
    assert model["parameters"]["total"] == 7_505_637_376 and model["new_parameters"] == 68_280_320
    assert (model["image"]["visual_tokens"], model["video"]["visual_tokens"]) == (256, 2048)
    needs = {(row["precision"], row["device"]): row for row in model["needs"]}
    assert needs.keys() == {(p, d) for p in ("fp32", "bf16", "int8") for d in ("gpu", "cpu")} | {("int4", "gpu")}
    video = needs["bf16", "gpu"]["video"]
    assert video["kv_cache"] == 2560 * 524_288 and video["weights"] == 2 * 7_505_637_376
    assert video["total"] == sum(video[part] for part in ("weights", "kv_cache", "states", "activations"))
    fits = {row["name"]: row for row in model["fits"]}
    assert {f"card of {size} GB" for size in (8, 16, 24, 40, 80)} <= fits.keys()
    for row in fits.values():
        for precision in ("fp32", "bf16", "int8", "int4"):
            if row["kind"] == "cpu" and precision == "int4":
                assert row[precision] is None
                continue
            need = needs[precision, row["kind"]]
            expected = {case: need[case]["total"] <= row["usable"] for case in ("image", "video")}
            assert row[precision] == expected, (row["name"], precision)
    assert fits["card of 24 GB"]["usable"] == 21_600_000_000
    assert fits["card of 24 GB"]["bf16"]["video"] and not fits["card of 16 GB"]["bf16"]["image"]


def test_memory_of_this_machine(run, tmp_path: Path) -> None:
    if not Path("/proc/meminfo").is_file():
        pytest.skip("the system keeps its memory elsewhere")
    out = run("doctor", "--model", folder(tmp_path / "tiny"), "--json")[1]
    (memory,) = [row for row in json.loads(out)["model"]["fits"] if row["name"] == "RAM"]
    assert memory["present"] and 0 < memory["usable"] <= memory["total"]
    stated = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert memory["total"] <= stated
    assert memory["fp32"] == {"image": True, "video": True}


def test_face_experts_are_named_besides(run, tmp_path: Path) -> None:
    from facellava.model.experts import WEIGHTS
    from facellava.weights import default_register

    place = folder(tmp_path / "experts", vision={"kind": "experts", "width": 12, "grid": 3})
    sizes = {name: default_register()[name].size for name in WEIGHTS}
    model = json.loads(run("doctor", "--model", place, "--json")[1])["model"]
    assert model["experts"] == sum(sizes.values()) > 90e6
    assert model["image"]["visual_tokens"] == 9
    assert f"files of {sum(sizes.values()) / 1e9:.2f} GB, in memory besides" in run("doctor", "--model", place)[1]


def test_a_folder_as_text(run, tmp_path: Path) -> None:
    place = folder(tmp_path / "tiny")
    out = run("doctor", "--model", place)[1]
    lines = out[out.index("model     ") :].splitlines()
    assert lines[0].startswith(f"model     {place}: ") and "frgca 4,224" in lines[0]
    assert lines[2] == "          a picture is 9 tokens, a video 27 (3 frames); with 512 of text"
    (card,) = [line for line in lines if "card of 8 GB" in line]
    assert card.split()[-4:] == ["yes"] * 4
    (memory,) = [line for line in lines if line.strip().startswith("RAM")]
    assert memory.split()[-1] == "-"


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, 10, "holds no config.json: name a folder with one, 'default', or paper-7b or release-7b"),
        ("[]", 25, "config.json was cut off or changed (no JSON object)"),
        ('{"model_type": "llama"}', 2, "holds a model of type llama: make it ours with facellava convert"),
        ('{"model_type": "facellava", "vision": {"width": 3}}', 2, "heads=16 does not divide width=3"),
        (
            json.dumps({"model_type": "facellava", "vision": VISION, "text_config": {**TEXT, **SHORT}}),
            2,
            "9 visual tokens of one image do not fit the language model's 5",
        ),
    ],
)
def test_what_is_no_model_is_one_line(run, tmp_path: Path, content: str | None, code: int, words: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    found, _, errors = run("doctor", "--model", tmp_path)
    assert (found, errors.count("\n")) == (code, 1) and words in errors


def test_the_default_without_its_language_model_is_one_line(run, tmp_path: Path) -> None:
    card = {"name": "tiny", "base": "smollm2-135m-instruct", "crop_margin": 0.6, "heads": 8, "grid": 7,
            "lora_scale": 2.0, "placeholder": 0, "stop": "<|im_end|>"}  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(card))
    code, _, errors = run("doctor", "--model", tmp_path)
    assert (code, errors.count("\n")) == (20, 1) and "smollm2-135m-instruct" in errors


def test_without_torch_it_is_one_line(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, errors = run("doctor", "--model", "paper-7b")
    assert code == 24
    assert errors == "facellava: error: doctor --model needs the extra 'torch': pip install 'facellava[torch]'\n"
