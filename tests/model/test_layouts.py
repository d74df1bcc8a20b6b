"""Every known layout is told by its keys, loads, converts to ours and back without a changed bit."""

from __future__ import annotations

import json
from pathlib import Path

import layouts_world as world
import pytest
import torch
from model_helpers import byte_tokenizer
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from facellava.errors import DamagedCheckpoint, UsageError
from facellava.model.layouts import LAYOUTS, Options, convert, detect, inspect, load_model
from facellava.model.modeling import FaceLlavaForConditionalGeneration as Model
from facellava.model.official_keys import model_state
from facellava.model.processing import FaceLlavaProcessor

SIZES = Options(changes={"vision": world.VISION})
ROUND = ("official", "official-masked", "video-llava", "video-llava-hub", "video-llava-hub-5", "video-llava-memory",
         "video-llava-memory-4")  # fmt: skip


def tensors(folder: Path) -> dict[str, Tensor]:
    return {key: value for file in sorted(folder.glob("*.safetensors")) for key, value in load_file(file).items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in one)


@torch.no_grad()
def logits(model: Model, frames: int) -> Tensor:
    """Of random pictures, landmarks and words."""
    model = model.float().eval()
    for weight in model.parameters():  # some processors' products depend on where in memory the same weights lie
        weight.data = weight.data.clone()
    g = torch.Generator().manual_seed(7)
    tokens = model.num_visual_tokens(frames)
    ids = torch.tensor([[1, *[model.config.image_token_id] * tokens, 5, 6, 7]])
    pixels, points = torch.randn(1, frames, 3, 8, 8, generator=g), torch.rand(1, frames, 68, 2, generator=g)
    return model(input_ids=ids, pixel_values=pixels, landmarks=points).logits


@pytest.mark.parametrize("name", list(world.WORLD))
def test_a_layout_is_told_by_its_keys(name: str) -> None:
    assert detect(world.WORLD[name][0], "here").name == name


def test_every_layout_has_a_checkpoint_here() -> None:
    assert {layout.name for layout in LAYOUTS} == {*world.WORLD, "ours"}


@pytest.mark.parametrize("name", world.MODELS)
def test_each_layout_loads_and_its_logits_survive_conversion(name: str, tmp_path: Path) -> None:
    source = world.checkpoint(tmp_path / "theirs", name)
    loaded = load_model(source, SIZES)
    report = convert(source, tmp_path / "ours", SIZES)
    assert report.layout == name and report.written == len(loaded.model.state_dict())
    assert not (report.missing or report.unexpected or report.wrong)
    again = load_model(tmp_path / "ours")
    assert again.report.layout == "ours" and not again.report.dropped and not again.report.initialised
    same(loaded.model.state_dict(), again.model.state_dict())
    from_hub = Model.from_pretrained(tmp_path / "ours")
    for frames in (1, 8):
        expected = logits(loaded.model, frames)
        assert expected.isfinite().all()
        assert torch.equal(expected, logits(again.model, frames))
        assert torch.equal(expected, logits(from_hub, frames))


@pytest.mark.parametrize("name", ROUND)
def test_there_and_back_is_bit_exact(name: str, tmp_path: Path) -> None:
    source = world.checkpoint(tmp_path / "theirs", name, tokenizer=True)
    convert(source, tmp_path / "ours", SIZES)
    report = convert(tmp_path / "ours", tmp_path / "back", to=name)
    same(tensors(source), tensors(tmp_path / "back"))
    assert not report.filled
    for file in ("config.json", "tokenizer.json"):
        read = [json.loads((folder / file).read_text()) for folder in (source, tmp_path / "back")]
        assert read[0] == read[1]


def test_halves_stay_halves(tmp_path: Path) -> None:
    shapes, config = world.WORLD["official"]
    mixed = world.state(shapes, dtype=torch.bfloat16)
    mixed["model.norm.weight"] = mixed["model.norm.weight"].float()
    source = world.write(tmp_path / "theirs", mixed, config)
    convert(source, tmp_path / "ours", SIZES)
    convert(tmp_path / "ours", tmp_path / "back", to="official")
    same(mixed, tensors(tmp_path / "back"))
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["dtype"] == "bfloat16"
    convert(source, tmp_path / "whole", Options(changes=SIZES.changes, dtype="float32"))
    assert {value.dtype for value in tensors(tmp_path / "whole").values()} == {torch.float32}


def test_names_agree_with_the_functions_that_parity_was_tested_with(tmp_path: Path) -> None:
    source = world.checkpoint(tmp_path, "official")
    same(load_model(source, SIZES).model.state_dict(), model_state(load_file(source / "model.safetensors"), 2))


def test_what_the_official_layout_drops(tmp_path: Path) -> None:
    report = inspect(world.checkpoint(tmp_path, "official"), SIZES)
    counts = {reason: len(names) for reason, names in report.dropped.items()}
    # 16 tensors of an image tower's last layer, 27 of a video tower's, 2 norms behind each
    assert counts == {
        "computed, not learned": 2,
        "behind the selected layer: does not reach the features": 16 + 27 + 4,
        "stored by the release, without effect": 2,
    }
    assert report.tensors == len(world.official()) == report.taken - 4 + sum(counts.values())  # 2 tensors become 6
    assert not report.initialised and not report.warnings


def test_the_official_layout_without_attention_across_time(tmp_path: Path) -> None:
    source = world.write(tmp_path / "theirs", world.state(world.official(temporal=False)), world.TOP)
    report = convert(source, tmp_path / "ours", SIZES)
    assert list(report.initialised) == ["attention across time"]
    assert any("no attention across time" in line for line in report.warnings)


def test_the_hubs_features_are_transformers_own(tmp_path: Path) -> None:
    """Converted both ways, against ``VideoLlavaForConditionalGeneration`` with LanguageBind's activation."""
    from transformers import VideoLlavaConfig, VideoLlavaForConditionalGeneration

    torch.manual_seed(0)
    theirs = VideoLlavaForConditionalGeneration(VideoLlavaConfig(**{**world.HUB, "vision_feature_layer": -2})).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hub", to="video-llava-hub")
    again, found = VideoLlavaForConditionalGeneration.from_pretrained(tmp_path / "hub", output_loading_info=True)
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    image, video = torch.randn(1, 1, 3, 8, 8), torch.randn(1, 8, 3, 8, 8)
    with torch.no_grad():
        model = loaded.model.eval()
        chosen = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
        for other in (theirs, again.eval()):
            expected = other.model.get_image_features(image[:, 0], **chosen).pooler_output
            torch.testing.assert_close(model.projector(model.vision_tower(image))[:, 0], expected, atol=1e-5, rtol=0)
            expected = other.model.get_video_features(video, vision_feature_layer=-2).pooler_output[:, 1:]
            torch.testing.assert_close(model.projector(model.vision_tower(video))[0], expected, atol=1e-5, rtol=0)
    assert list(loaded.report.initialised) == ["frlp", "frgca", "attention across time"]


def test_the_padded_vocabulary_is_cut_and_the_tokenizer_with_it(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<video>"], "pad_token": "<pad>"})
    assert len(tokenizer) == world.WORDS + 3
    source = world.checkpoint(tmp_path / "hub", "video-llava-hub")
    tokenizer.save_pretrained(source)
    report = convert(source, tmp_path / "ours")
    assert "without <image>, <pad>, <video>" in report.tokenizer
    processor = FaceLlavaProcessor.from_pretrained(tmp_path / "ours")
    model = Model.from_pretrained(tmp_path / "ours")
    assert model.config.text_config.vocab_size == len(processor.tokenizer) == world.WORDS
    assert model.config.image_token_id == world.WORDS and processor.pad_id() < world.WORDS
    assert max(processor.tokenizer.encode("an <image> and a <video>")) < world.WORDS
    assert model.get_input_embeddings().get_parameter("weight").shape == (world.WORDS, world.DIM)
    convert(tmp_path / "ours", tmp_path / "back", to="video-llava-hub")
    assert (tmp_path / "back" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("kind", ["languagebind", "tower"])
def test_towers_of_another_checkpoint(kind: str, tmp_path: Path) -> None:
    towers = [world.checkpoint(tmp_path / name, f"{kind}-{name}", seed=9) for name in ("image", "video")]
    source = world.checkpoint(tmp_path / "hub", "video-llava-hub")
    options = Options(towers=towers[1:])
    report = convert(source, tmp_path / "ours", options)
    assert list(report.initialised) == ["frlp", "frgca"] and [line[:9] for line in report.warnings] == ["tokenizer"]
    prefix = "vision_model." if kind == "languagebind" else ""
    given = load_file(towers[1] / "model.safetensors")[f"{prefix}encoder.layers.0.temporal_embedding"]
    ours = load_file(tmp_path / "ours" / "model.safetensors")
    assert torch.equal(ours["vision_tower.video.layers.0.time_embedding"], given)
    words = world.checkpoint(tmp_path / "words", "causal-lm")
    report = inspect(words, Options(towers=towers, changes=SIZES.changes))
    assert list(report.initialised) == ["projector", "frlp", "frgca"] and not report.warnings
    with pytest.raises(UsageError, match="no language model"):
        convert(towers[0], tmp_path / "no", SIZES)
    with pytest.raises(UsageError, match="holds no vision tower"):
        inspect(source, Options(towers=[words]))


def test_a_model_that_was_trained_here_is_written_in_full(tmp_path: Path) -> None:
    """Without the kept leftovers what is lacking is filled so that it has no effect."""
    source = world.checkpoint(tmp_path / "theirs", "official")
    loaded = load_model(source, SIZES)
    loaded.model.save_pretrained(tmp_path / "trained")
    report = convert(tmp_path / "trained", tmp_path / "back", to="official")
    written = tensors(tmp_path / "back")
    assert {key: tuple(value.shape) for key, value in written.items()} == world.official()
    assert len(report.filled) == 2 + 16 + 27 + 4 + 2
    assert torch.equal(written["model.landmarks_cross_attn.ln.weight"], torch.ones(world.DIM))
    turns = written["model.layers.0.self_attn.rotary_emb.inv_freq"]
    torch.testing.assert_close(turns, 1 / 10000 ** (torch.arange(0, 8, 2) / 8))
    again = load_model(tmp_path / "back", SIZES)
    same(loaded.model.state_dict(), again.model.state_dict())
    assert torch.equal(logits(loaded.model, 8), logits(again.model, 8))  # config.json was written anew, too
    report = convert(tmp_path / "trained", tmp_path / "hub", to="video-llava-hub")
    written = tensors(tmp_path / "hub")
    assert {key: tuple(value.shape) for key, value in written.items()} == world.hub()
    assert any("no attention across time" in line for line in report.warnings)
    assert {key.split(".")[0] for key in report.left_out} == {"frlp", "frgca", "vision_tower"}


def test_leftovers_that_a_checkpoint_lacks_are_not_missed(tmp_path: Path) -> None:
    state = world.state(world.original())
    ours = ("post_layernorm", "inv_freq", "encoder.layers.2.")
    few = {key: value for key, value in state.items() if not any(part in key for part in ours)}
    report = convert(world.write(tmp_path / "theirs", few, world.TOP), tmp_path / "ours", SIZES)
    assert not report.dropped and not report.missing
    report = convert(tmp_path / "ours", tmp_path / "back", to="video-llava")
    back = tensors(tmp_path / "back")
    assert back.keys() == state.keys() and len(report.filled) == len(state) - len(few)
    assert all(torch.equal(back[key], few[key]) for key in few)


def test_a_layout_without_a_place_for_the_model(tmp_path: Path) -> None:
    source = world.checkpoint(tmp_path / "theirs", "video-llava")
    convert(source, tmp_path / "ours", SIZES)
    with pytest.raises(UsageError, match="fusion kind 'official_simple' after 'frlp'; this model has 'paper'"):
        convert(tmp_path / "ours", tmp_path / "no", to="official")
    assert not (tmp_path / "no").exists()
    options = Options(changes={**SIZES.changes, "fusion": {"kind": "official_simple"}})
    convert(source, tmp_path / "released", options, to="official")
    assert tensors(tmp_path / "released").keys() == world.official().keys()


def test_new_parts_follow_the_seed_alone(tmp_path: Path) -> None:
    source = world.checkpoint(tmp_path / "theirs", "video-llava")
    drawn = []
    for seed, disturbance in ((1, 0), (1, 5), (2, 0)):
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        drawn.append(load_model(source, Options(changes=SIZES.changes, seed=seed)).model.frgca.state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    same(drawn[0], drawn[1])
    assert not torch.equal(drawn[0]["query.weight"], drawn[2]["query.weight"])
    fresh = Model(load_model(source, SIZES).model.config).frgca
    assert drawn[0]["query.weight"].std() == pytest.approx(fresh.query.weight.std().item(), rel=0.1)


def test_new_towers_are_drawn_as_the_model_draws_them(tmp_path: Path) -> None:
    report, model = (loaded := load_model(world.checkpoint(tmp_path, "causal-lm"), SIZES)).report, loaded.model
    assert any("drawn at random, so the model sees nothing" in line for line in report.warnings)
    tower = model.vision_tower.video
    assert torch.equal(tower.pre_norm.weight, torch.ones(world.WIDTH))
    assert tower.cls.std().item() == pytest.approx(0.02, rel=0.6)
    assert tower.layers[0].time_attn.out.weight.abs().max() > 0  # nothing was dropped here, so nothing is silenced


def test_shards_are_written_and_read_again(tmp_path: Path) -> None:
    source = world.checkpoint(tmp_path / "theirs", "official")
    report = convert(source, tmp_path / "ours", SIZES, shard=20_000)
    assert len(report.files) > 10
    index = json.loads((tmp_path / "ours" / "model.safetensors.index.json").read_text())
    sizes = {}
    for file in report.files:
        with safe_open(tmp_path / "ours" / file, "pt") as opened:
            keys = set(opened.keys())
            assert keys == {key for key, place in index["weight_map"].items() if place == file}
            sizes[file] = sum(opened.get_tensor(key).nbytes for key in keys), len(keys)
    assert all(size <= 20_000 or count == 1 for size, count in sizes.values())
    assert index["metadata"]["total_size"] == sum(size for size, _ in sizes.values())
    same(load_model(source, SIZES).model.state_dict(), Model.from_pretrained(tmp_path / "ours").state_dict())
    convert(tmp_path / "ours", tmp_path / "back", to="official", shard=20_000)
    same(tensors(source), tensors(tmp_path / "back"))


@pytest.mark.parametrize("sharded", [False, True])
def test_pickled_weights_of_tensors_alone(sharded: bool, tmp_path: Path) -> None:
    folder = world.checkpoint(tmp_path / "theirs", "video-llava")
    expected = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    keys = sorted(expected)
    parts = [keys[::2], keys[1::2]] if sharded else [keys]
    names = [f"pytorch_model-{i}.bin" for i in range(2)] if sharded else ["pytorch_model.bin"]
    files = {name: {key: expected[key] for key in part} for name, part in zip(names, parts, strict=True)}
    for name, part in files.items():
        torch.save(part, folder / name)
    if sharded:
        (folder / "pytorch_model.bin.index.json").write_text(world.index_of(files))
    convert(folder, tmp_path / "ours", SIZES)
    convert(tmp_path / "ours", tmp_path / "back", to="video-llava")
    same(expected, tensors(tmp_path / "back"))


def test_tied_embeddings_are_stored_once(tmp_path: Path) -> None:
    shapes = world.language()
    config = {"model_type": "llama", **world.TEXT, "tie_word_embeddings": True}
    both = world.state(shapes)
    one = {key: value for key, value in both.items() if key != "lm_head.weight"}
    for name, given in (("both", both), ("one", one)):
        report = convert(world.write(tmp_path / name, given, config), tmp_path / f"ours-{name}", SIZES)
        assert not report.missing
        model = Model.from_pretrained(tmp_path / f"ours-{name}")
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
        assert torch.equal(model.get_input_embeddings().weight, both["model.embed_tokens.weight"])


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path: Path) -> None:
    source = world.checkpoint(tmp_path / "theirs", "official")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(UsageError, match="is there already"):
        convert(source, tmp_path / "there", SIZES)
    with pytest.raises(DamagedCheckpoint):
        convert(source, tmp_path / "ours")  # towers of LanguageBind's size do not fit
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs", "there"]


def test_a_converted_folder_starts_a_training_run(tmp_path: Path) -> None:
    from facellava.training.assemble import assemble
    from facellava.training.modules import choose
    from facellava.training.recipe import ModelConfig, StageConfig
    from facellava.training.talks import Corpus

    for name in ("video-llava", "llava", "causal-lm"):
        source = world.checkpoint(tmp_path / name, name, tokenizer=True)
        report = convert(source, tmp_path / f"{name}-ours", SIZES)
        assert {"frlp", "frgca"} <= report.initialised.keys()
        assert "initialised: " in report.text()
        model, processor, _ = assemble(ModelConfig(start=str(tmp_path / f"{name}-ours")), Corpus([]))
        stage = StageConfig(name="pretrain", trains=("frlp", "frgca"), lr=1e-4, batch=1)
        trained = sum(p.numel() for p in choose(model, stage).values())
        sizes = 2 * 68 * world.DIM * 2 + 10 * world.DIM  # every coordinate twice: by region and globally
        assert trained == sizes + 4 * (world.DIM**2 + world.DIM)
        before = "<|im_start|>user\n" if name != "video-llava" else "USER: "
        assert processor.style.before_user == before  # the byte tokenizer has ChatML's marks
