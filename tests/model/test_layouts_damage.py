"""Whatever is wrong with a checkpoint is told in one line, before anything is written."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import layouts_world as world
import pytest
import torch
from safetensors.torch import load_file, save_file

from facellava.errors import DamagedCheckpoint, FacellavaError, FileMissing, UsageError
from facellava.model.layouts import Options, convert, inspect

SIZES = Options(changes={"vision": world.VISION})
IN_PROJ = "model.landmarks_cross_attn.cross_attn.attn.in_proj_weight"
WHOLE = "model.global_landmarks_projector.weight"
QUERY = "model.layers.1.self_attn.q_proj.weight"
CLASS = "model.video_tower.video_tower.embeddings.class_embedding"
TIME = "model.video_tower.video_tower.encoder.layers.1.temporal_attn.q_proj.weight"


def refused(source: Path, tmp_path: Path, options: Options = SIZES) -> FacellavaError:
    """The error, which is one line and leaves nothing behind."""
    with pytest.raises(FacellavaError) as caught:
        convert(source, tmp_path / "ours", options)
    assert not (tmp_path / "ours").exists() and not list(tmp_path.glob(".ours*"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return caught.value


def change(state: world.State, key: str, value: torch.Tensor | None) -> None:
    if value is None:
        del state[key]
    else:
        state[key] = value


@pytest.mark.parametrize("name", ["official", "video-llava", "video-llava-hub", "llava", "causal-lm"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "1 missing: {q}"),
        ("extra", "1 unexpected: {q}_"),
        ("shape", "of another shape or type: {q} has shape (32, 31), not (32, 32)"),
        ("integer", "of another shape or type: {q} is of type int8, not a floating-point type"),
    ],
)
def test_tensors_of_the_language_model(name: str, damage: str, message: str, tmp_path: Path) -> None:
    shapes, config = world.WORLD[name]
    state = world.state(shapes)
    key = next(key for key in state if key.endswith("layers.1.self_attn.q_proj.weight"))
    if damage == "missing":
        del state[key]
    elif damage == "extra":
        state[f"{key}_"] = torch.zeros(1)
    else:
        state[key] = torch.zeros(32, 31) if damage == "shape" else state[key].to(torch.int8)
    error = refused(world.write(tmp_path / "theirs", state, config), tmp_path)
    assert isinstance(error, DamagedCheckpoint) and error.exit_code == 25
    assert message.format(q=key) in str(error) and f"(layout {name})" in str(error)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (WHOLE, None, f"1 missing: {WHOLE}"),
        (IN_PROJ, None, f"1 missing: {IN_PROJ}"),
        (IN_PROJ, torch.zeros(95, 32), "has shape (95, 32), not (32, 32)"),
        ("model.landmarks_cross_attn.linear_proj.bias", None, "1 missing: model.landmarks_cross_attn.linear_proj.bias"),
        ("model.landmarks_projector.region_layers.lips.weight", None, "1 missing: model.landmarks_projector"),
        ("model.landmarks_projector.region_layers.chin.weight", torch.zeros(32, 8), "1 unexpected: model.landmarks_p"),
        (CLASS, None, f"1 missing: {CLASS}; vision towers can be taken"),
        (CLASS, torch.zeros(17), f"{CLASS} has shape (17,), not (16,)"),
        (TIME, None, f"1 missing: {TIME}"),
        ("model.mm_projector.4.weight", torch.zeros(32, 32), "1 unexpected: model.mm_projector.4.weight"),
        ("model.video_tower.video_tower.encoder.layers.0.lora_A", torch.zeros(2), "1 unexpected"),
    ],
)
def test_tensors_of_the_official_layout(key: str, value: torch.Tensor | None, message: str, tmp_path: Path) -> None:
    state = world.state(world.official())
    change(state, key, value)
    error = refused(world.write(tmp_path / "theirs", state, world.TOP), tmp_path)
    assert isinstance(error, DamagedCheckpoint) and message in str(error)


def test_everything_that_is_wrong_is_in_the_report(tmp_path: Path) -> None:
    state = world.state(world.official())
    for key in [key for key in state if ".image_tower." in key]:
        del state[key]
    change(state, "surplus", torch.zeros(1))
    change(state, QUERY, torch.zeros(1, dtype=torch.int64))
    report = inspect(world.write(tmp_path / "theirs", state, world.TOP), SIZES)
    assert len(report.missing) == 5 + 2 * 16 and report.unexpected == ["surplus"]
    assert report.wrong == [f"{QUERY} is of type int64, not a floating-point type of 16, 32 or 64 bits"]
    with pytest.raises(DamagedCheckpoint, match=r"37 missing: .* and 34 more; 1 unexpected: surplus; 1 of another"):
        report.refuse()
    assert "missing (37)" in report.text() and json.dumps(report.to_json())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def head(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


@pytest.mark.parametrize("harm", [cut, head, lambda path: path.write_bytes(b"")], ids=["cut", "header", "empty"])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_files_that_are_damaged(kind: str, harm: Callable[[Path], object], tmp_path: Path) -> None:
    folder = world.checkpoint(tmp_path / "theirs", "official")
    path = folder / "model.safetensors"
    if kind == "bin":
        torch.save(load_file(path), folder / "pytorch_model.bin")
        path.unlink()
        path = folder / "pytorch_model.bin"
    if kind == "bin" and harm is head:
        path.write_bytes(path.read_bytes().replace(b"PK", b"XX"))
    else:
        harm(path)
    error = refused(folder, tmp_path)
    assert isinstance(error, DamagedCheckpoint) and str(path) in str(error)


class _Trap:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(zipped: bool, tmp_path: Path) -> None:
    folder = world.write(tmp_path / "theirs", {"x": torch.zeros(1)}, world.TOP)
    (folder / "model.safetensors").unlink()
    path, trap = folder / "pytorch_model.bin", tmp_path / "sprung"
    content = {"model.norm.weight": torch.zeros(2), "trap": _Trap(trap)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    error = refused(folder, tmp_path)
    assert isinstance(error, DamagedCheckpoint) and str(path) in str(error)
    assert not trap.exists()
    if zipped:
        assert "holds more than tensors, or is damaged: nothing of it was run" in str(error)


@pytest.mark.parametrize("content", [{"state": {"x": torch.zeros(1)}}, [torch.zeros(1)], {"x": 1}])
def test_a_pickle_of_other_things(content: object, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    torch.save(content, tmp_path / "theirs" / "pytorch_model.bin")
    assert "holds other things than named tensors" in str(refused(tmp_path / "theirs", tmp_path))


def index(folder: Path, places: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({}, "has no 'weight_map'"),
        (3, "has no 'weight_map'"),
        ({"a": 3}, "has no 'weight_map'"),
        ({"a": "gone.safetensors"}, "names gone.safetensors, which is not beside it"),
        ({"a": "../outside.safetensors"}, "names ../outside.safetensors, which is not beside it"),
        ({"a": "part.safetensors"}, "holds, against the index, b"),
        ({"a": "part.safetensors", "b": "part.safetensors", "c": "part.safetensors"}, "part.safetensors lacks c"),
    ],
)
def test_an_index_that_does_not_fit(places: object, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for path in (folder / "part.safetensors", tmp_path / "outside.safetensors"):
        save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, path)
    index(folder, places)
    assert message in str(refused(folder, tmp_path))


def test_folders_without_a_checkpoint(tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path / "nowhere", tmp_path), FileMissing)
    (tmp_path / "empty").mkdir()
    assert "holds none of model.safetensors, pytorch_model.bin" in str(refused(tmp_path / "empty", tmp_path))
    (tmp_path / "text.txt").write_text("x")
    assert isinstance(refused(tmp_path / "text.txt", tmp_path), FileMissing)
    other = world.write(tmp_path / "other", {"conv.weight": torch.zeros(1)}, world.TOP)
    assert "is of no known layout (its 1 tensors: conv.weight" in str(refused(other, tmp_path))
    none = world.write(tmp_path / "none", {}, world.TOP)
    assert "holds no tensors" in str(refused(none, tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "holds no config.json"),
        ("{", "config.json was cut off or changed"),
        ("[]", "config.json was cut off or changed (no JSON object)"),
        ('{"hidden_size": 32}', "names no language model (model_type)"),
        ('{"model_type": "unheard-of"}', "unheard-of"),
        ('{"model_type": "llava", "hidden_size": "wide"}', "hidden_size"),
        ('{"model_type": "llava", "hidden_size": 30, "num_attention_heads": 4}', "heads"),
    ],
)
def test_a_configuration_that_is_damaged(config: str, message: str, tmp_path: Path) -> None:
    folder = world.checkpoint(tmp_path / "theirs", "official")
    (folder / "config.json").write_text(config) if config else (folder / "config.json").unlink()
    assert message in str(refused(folder, tmp_path))


def test_a_tokenizer_that_is_damaged(tmp_path: Path) -> None:
    folder = world.checkpoint(tmp_path / "theirs", "video-llava", tokenizer=True)
    for text, message in (("{", "tokenizer.json was cut off or changed"), ('{"version": "1.0"}', "cannot be opened")):
        (folder / "tokenizer.json").write_text(text)
        assert message in str(refused(folder, tmp_path))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\x0a")
    assert "tokenizer.model" in str(refused(folder, tmp_path))
    options = Options(changes=SIZES.changes, tokenizer=tmp_path)
    assert "holds no tokenizer" in str(refused(folder, tmp_path, options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(layout="nothing"), "there is no layout 'nothing'; known: ours, official"),
        (Options(dtype="int8"), "dtype is 'int8'; choose one of float32"),
        (Options(changes={"vision": {"colour": 1}}), "vision has unknown settings: colour"),
        (Options(changes={"fusion": {"kind": "other"}}), "fusion kind is 'other'"),
        (Options(changes={"vision": {**world.VISION, "heads": 3}}), "heads=3 does not divide width=16"),
    ],
)
def test_options_that_make_no_sense(options: Options, message: str, tmp_path: Path) -> None:
    error = refused(world.checkpoint(tmp_path / "theirs", "video-llava"), tmp_path, options)
    assert isinstance(error, UsageError) and message in str(error)
    with pytest.raises(UsageError, match="cannot write layout 'llava'; choose one of ours, official"):
        convert(tmp_path / "theirs", tmp_path / "ours", SIZES, to="llava")


def test_a_layout_that_is_named_wrongly(tmp_path: Path) -> None:
    folder = world.checkpoint(tmp_path / "theirs", "video-llava")
    error = refused(folder, tmp_path, Options(layout="official", changes=SIZES.changes))
    assert "missing: model.landmarks" in str(error)
