"""What a stage trains: names, gradients, low-rank factors."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from model_helpers import tiny_config, visual_inputs  # noqa: E402

from facellava.errors import UsageError  # noqa: E402
from facellava.model.config import FusionConfig  # noqa: E402
from facellava.model.modeling import FaceLlavaForConditionalGeneration  # noqa: E402
from facellava.training.modules import add_factors, choose, count, load_part, merged_state, table  # noqa: E402
from facellava.training.recipe import LoraConfig, StageConfig  # noqa: E402

ALIGN = StageConfig("align", ("frlp", "frgca"), 1e-4)
FINETUNE = StageConfig("finetune", ("frlp", "frgca", "projector", "language_model"), 2e-5)


def model(**parts) -> FaceLlavaForConditionalGeneration:
    torch.manual_seed(0)
    return FaceLlavaForConditionalGeneration(tiny_config(**parts))


def run(m: FaceLlavaForConditionalGeneration) -> None:
    ids = torch.tensor([[1, *[m.config.image_token_id] * m.num_visual_tokens(1), 5, 6, 7]])
    labels = torch.full_like(ids, -100)
    labels[:, -2:] = ids[:, -2:]
    m(input_ids=ids, labels=labels, answers_only=True, **visual_inputs(m.config)).loss.backward()


def test_stage_one_has_no_gradient_elsewhere() -> None:
    """Section 4.3, face-region pretraining: the parameters are those of FRLP and FRGCA, and no other."""
    m = model()
    chosen = choose(m, ALIGN)
    run(m)
    touched = {name for name, p in m.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {name.split(".")[0] for name in touched} == {"frlp", "frgca"}
    # a key's bias shifts all scores of a query alike, which softmax ignores; round-off is all it gets
    assert set(chosen) - touched <= {"frgca.key.bias"}
    assert all(p.grad is None for name, p in m.named_parameters() if name not in chosen)


def test_stage_two_trains_everything_but_the_tower() -> None:
    m = model()
    chosen = choose(m, FINETUNE)
    assert {name.split(".")[0] for name in chosen} == {"frlp", "frgca", "projector", "language_model"}
    run(m)
    assert all(p.grad is None for p in m.vision_tower.parameters())
    assert m.projector.first.weight.grad.abs().sum() > 0


def test_counts_are_those_of_the_parts() -> None:
    m = model()
    choose(m, ALIGN)
    rows = {row.name: row for row in count(m)}
    own = sum(p.numel() for p in (*m.frlp.parameters(), *m.frgca.parameters()))
    assert rows["all"].total == sum(p.numel() for p in m.parameters()) and rows["all"].trained == own
    assert rows["vision_tower"].trained == rows["language_model"].trained == 0
    assert f"{own:,}" in table(m, ALIGN)


def test_last_layers_only() -> None:
    m = model()
    chosen = choose(m, StageConfig("x", ("language_model",), 1e-4, last_layers=1))
    assert chosen and all(".layers.1." in name for name in chosen)
    with pytest.raises(UsageError, match="last_layers=3, but there are 2 blocks"):
        choose(m, StageConfig("x", ("language_model",), 1e-4, last_layers=3))


def test_parts_that_are_not_there() -> None:
    m = model(fusion=FusionConfig(kind="none", landmarks="none"))
    with pytest.raises(UsageError, match=r"stage 'align' trains frlp, which this model does not have"):
        choose(m, ALIGN)


def test_factors_train_instead_of_weights_and_merge_exactly() -> None:
    m = model()
    before = {name: value.clone() for name, value in m.state_dict().items()}
    add_factors(m, LoraConfig(rank=2, alpha=6, targets=("q_proj", "down_proj")))
    chosen = choose(m, FINETUNE)
    language = [name for name in chosen if name.startswith("language_model")]
    assert len(language) == 2 * 2 * 2 and all("lora_" in name for name in language)
    merged = merged_state(m, 3.0)
    assert merged.keys() == before.keys()
    assert all(torch.equal(merged[name], before[name]) for name in before), "factors start at zero"
    with torch.no_grad():
        for name, p in m.named_parameters():
            if "lora_B" in name:
                p.normal_()
    ids = torch.tensor([[1, *[m.config.image_token_id] * m.num_visual_tokens(1), 5, 6, 7]])
    plain = model()
    plain.load_state_dict(merged_state(m, 3.0))
    inputs = visual_inputs(m.config)
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids, **inputs).logits, m(input_ids=ids, **inputs).logits)
    with pytest.raises(UsageError, match=r"lora.targets names 'qkv'"):
        add_factors(model(), LoraConfig(targets=("qkv",)))


def test_tensors_of_another_model_are_refused() -> None:
    m = model()
    with pytest.raises(UsageError, match=r"w.safetensors holds frlp.whole.weight \(3, 3\), the model has \(32, 136\)"):
        load_part(m, {"frlp.whole.weight": torch.zeros(3, 3)}, "w.safetensors")
    with pytest.raises(UsageError, match="the model has None"):
        load_part(m, {"other": torch.zeros(1)}, "w.safetensors")
