"""Any trained folder behind the same engine: equal to the ONNX decoder and to transformers' own generation."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import default_model

torch = pytest.importorskip("torch", reason="needs the torch extra")

from model_helpers import TINY_VISION, byte_tokenizer, tiny_config  # noqa: E402
from synthetic_clip import make_clip  # noqa: E402
from transformers import LlamaForCausalLM  # noqa: E402

import facellava  # noqa: E402
from facellava import tasks  # noqa: E402
from facellava.analyzer import load  # noqa: E402
from facellava.answers import answer_task  # noqa: E402
from facellava.errors import FileMissing  # noqa: E402
from facellava.model.config import FusionConfig  # noqa: E402
from facellava.model.decoder_onnx import build_decoder, save_model  # noqa: E402
from facellava.model.modeling import FaceLlavaForConditionalGeneration  # noqa: E402
from facellava.model.processing import FaceLlavaProcessor  # noqa: E402
from facellava.runtime.decoder import Decoder, OnnxDecoder  # noqa: E402
from facellava.runtime.torch_engine import TorchDecoder, TorchEngine  # noqa: E402
from facellava.runtime.torch_model import text_config  # noqa: E402

IDS = [1, 40, 41, 42, 97, 55, 60, 61, 62]


@pytest.fixture(scope="module")
def embeds() -> np.ndarray:
    return tiny.language_weights()["model.embed_tokens.weight"]


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Decoder, Decoder]:
    """One language model in torch and in ONNX."""
    path = tmp_path_factory.mktemp("decoder") / "decoder.onnx"
    save_model(build_decoder(tiny.config(), tiny.language_weights(), "fp32"), path)
    model = LlamaForCausalLM(text_config(tiny.config())).eval()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in tiny.language_weights().items()}, strict=False)
    return TorchDecoder(model), OnnxDecoder(path, tiny.config())


def test_states_and_branches_equal_those_of_onnx(decoders: tuple[Decoder, Decoder], embeds: np.ndarray) -> None:
    branches = [embeds[[50, 51, 52]], embeds[[60]], embeds[[70, 71]]]
    found: list[list[Any]] = []
    for decoder in decoders:
        prefix = decoder.extend(decoder.empty(), embeds[IDS[:4]])
        one, other = decoder.extend(prefix, embeds[IDS[4:]]), decoder.extend(prefix, embeds[IDS[5:]])
        found.append([prefix.logits, one.logits, other.logits, *decoder.branch_logits(prefix, branches)])
        assert (prefix.length, one.length) == (4, 9)
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def folder_of(path: Path, **parts: Any) -> Path:
    torch.manual_seed(0)
    config = tiny_config(vision=dataclasses.replace(TINY_VISION, temporal=False), **parts)
    model = FaceLlavaForConditionalGeneration(config)
    tokenizer = byte_tokenizer()
    model.save_pretrained(path)
    FaceLlavaProcessor(tokenizer, config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> TorchEngine:
    return TorchEngine(folder_of(tmp_path_factory.mktemp("trained") / "final"), Path)


@pytest.mark.parametrize("frames", [1, 5])
def test_greedy_answers_equal_generate(engine: TorchEngine, frames: int) -> None:
    clip = make_clip(frames, mouth_open=0.5)
    ours = "".join(engine.ask(engine.look(clip), "What is the mouth doing?", max_new_tokens=12))
    batch = engine._processor(clip, [{"role": "user", "content": "What is the mouth doing?"}])
    ids = engine._model.generate(**batch, max_new_tokens=12, do_sample=False, eos_token_id=sorted(engine._stop))
    theirs = engine.decode([i for i in ids[0, batch["input_ids"].shape[1] :].tolist() if i not in engine._stop])
    assert ours == theirs
    assert ours


def test_candidates_are_scored_as_the_sum_of_their_tokens(engine: TorchEngine) -> None:
    clip, task = make_clip(mouth_open=0.5), tasks.get("expression")
    words = [task.candidate(name) for name in task.names]
    p = engine.score(engine.look(clip), task.closed_question(), task.closed.prefix, words)
    logs = []
    for word in words:
        batch = engine._processor(clip, [{"role": "user", "content": task.closed_question()}])
        opening, ids = engine.tokenize(task.closed.prefix), engine.tokenize(word)
        whole = torch.cat([batch["input_ids"], torch.tensor([opening + ids])], 1)
        inputs = {k: v for k, v in batch.items() if k not in ("input_ids", "attention_mask")}
        with torch.no_grad():
            logits = engine._model(input_ids=whole, **inputs).logits[0].log_softmax(-1)
        places = range(whole.shape[1] - len(ids) - 1, whole.shape[1] - 1)
        logs.append(sum(float(logits[place, i]) for place, i in zip(places, ids, strict=True)))
    expected = torch.tensor(logs).softmax(0).numpy()
    np.testing.assert_allclose(p, expected, atol=1e-4)
    assert p.sum() == pytest.approx(1)


def test_every_task_is_answered_by_a_trained_folder(engine: TorchEngine) -> None:
    seen = engine.look(make_clip(3, mouth_open=0.5))
    assert seen.region_attention.shape == (9,)
    assert seen.region_attention.sum() == pytest.approx(1, abs=1e-4)
    for task in tasks.all_tasks().values():
        result = answer_task(engine, seen, task, "video", explain=False).to_dict()
        assert result["text"]
        assert not result["abstained"]


def test_a_model_without_landmarks_has_no_attention_to_regions(tmp_path: Path) -> None:
    engine = TorchEngine(folder_of(tmp_path / "final", fusion=FusionConfig(kind="none", landmarks="none")), Path)
    assert engine.look(make_clip()).region_attention.size == 0


def test_load_takes_a_trained_folder(tmp_path: Path) -> None:
    """The whole path from a picture, with a model that torch runs."""
    model = load(str(folder_of(tmp_path / "final")), progress=False)
    result = model.analyze(default_model.astronaut(), tasks=["expression", "age"], explain=False)
    assert result.model == "final"
    (face,) = result.faces
    assert face.expression is not None
    assert sum(face.expression.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert face.age is not None
    assert 0 <= face.age.years < 100


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no trained model"):
        TorchEngine(tmp_path, Path)
    assert facellava.load is load


class Marked:
    """A tokenizer that opens every word with a mark of its own and spells no digits, as LLaMA's does with a space."""

    def __init__(self, known: dict[str, int]) -> None:
        self.known = known

    def __call__(self, text: str) -> list[int]:
        ids = []
        for word in text.split(" "):
            ids += [0, self.known.setdefault(word, len(self.known) + 1)]
        return ids


def test_yes_and_no_are_told_apart_where_both_begin_with_the_mark_of_a_space(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "tokenize", Marked({}))
    odds = engine.score_yes(engine.look(make_clip()), "Which?", ["AU12:"], " yes", " no")
    assert odds[0] != 0.0


def test_an_age_is_not_taken_for_a_longer_one_that_begins_alike(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where numbers are single tokens the whole head is scored, so that 4 and 45 are different answers."""
    asked: list[list[str]] = []
    monkeypatch.setattr(engine, "tokenize", Marked({}))
    monkeypatch.setattr(engine, "score", lambda seen, question, prefix, heads: asked.append(list(heads)))
    task = tasks.get("age")
    engine.score_years(engine.look(make_clip()), "How old?", [task.head(year) for year in range(100)])
    assert asked[0][4] == "4 years old"
    assert asked[0][45] == "45 years old"
