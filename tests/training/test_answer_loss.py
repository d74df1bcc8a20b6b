"""Eq. 7: the loss where answers are, against numbers worked out by hand and against the full logits."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from model_helpers import PLACEHOLDER, prompt, tiny_config, visual_inputs  # noqa: E402

from facellava.model.answer_loss import answer_loss  # noqa: E402
from facellava.model.modeling import FaceLlavaForConditionalGeneration  # noqa: E402

IGNORED = -100


def by_hand() -> tuple:
    """Two rows of three positions, a vocabulary of two; the head shows the hidden state as logits."""
    hidden = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]], [[0.0, 1.0], [5.0, 5.0], [9.0, 9.0]]])
    labels = torch.tensor([[IGNORED, 1, 0], [IGNORED, 1, IGNORED]])
    return hidden, torch.nn.Identity(), labels


def test_by_hand() -> None:
    # row 0: position 0 says (0, 0) and 1 comes: ln 2; position 1 says (2, 0) and 0 comes: ln(1 + e^-2)
    # row 1: position 0 says (0, 1) and 1 comes: ln(1 + e^-1); nothing else counts
    first, second = math.log(2) + math.log1p(math.exp(-2)), math.log1p(math.exp(-1))
    out = answer_loss(*by_hand())
    assert out.row_loss.tolist() == pytest.approx([first, second]) and out.row_weight.tolist() == [2, 1]
    assert float(out.loss.detach()) == pytest.approx((first + second) / 3)
    assert float(answer_loss(*by_hand(), count=10).loss) == pytest.approx((first + second) / 10)


def test_weights_by_hand() -> None:
    weights = torch.tensor([[7.0, 2.0, 0.5], [7.0, 1.0, 7.0]])
    a, b, c = math.log(2), math.log1p(math.exp(-2)), math.log1p(math.exp(-1))
    out = answer_loss(*by_hand(), weights)
    assert out.row_weight.tolist() == [2.5, 1.0], "weights outside answers do not count"
    assert float(out.loss.detach()) == pytest.approx((2 * a + 0.5 * b + c) / 3.5)


def test_rows_without_labels_have_no_loss_and_no_gradient() -> None:
    hidden, head, labels = by_hand()
    hidden.requires_grad_(True)
    out = answer_loss(hidden, head, torch.full_like(labels, IGNORED), count=4)
    out.loss.backward()
    assert float(out.loss.detach()) == 0 and not hidden.grad.any()


def model_and_batch():
    torch.manual_seed(0)
    model = FaceLlavaForConditionalGeneration(tiny_config()).train()
    ids = prompt(model.config, text=(5, 6, 7, 8, 9)).repeat(2, 1)
    labels = ids.clone().masked_fill(ids == PLACEHOLDER, IGNORED)
    labels[:, :-3] = IGNORED
    labels[1, -1] = IGNORED
    return model, {"input_ids": ids, "labels": labels, **visual_inputs(model.config, batch=2)}


def test_equals_the_loss_over_full_logits() -> None:
    model, batch = model_and_batch()
    ours = model(**batch, answers_only=True)
    theirs = model(**batch)
    torch.testing.assert_close(ours.loss, theirs.loss)
    gradients = []
    for loss in (ours.loss, theirs.loss):
        model.zero_grad()
        loss.backward(retain_graph=True)
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], atol=1e-6, rtol=1e-4)


def test_a_batch_in_two_parts_has_the_same_gradient() -> None:
    model, batch = model_and_batch()
    count = 5  # 3 answer tokens and 2
    model(**batch, answers_only=True, num_items_in_batch=count).loss.backward()
    whole = model.frlp.whole.weight.grad.clone()
    model.zero_grad()
    for row in range(2):
        part = {name: value[row : row + 1] for name, value in batch.items()}
        model(**part, answers_only=True, num_items_in_batch=count).loss.backward()
    torch.testing.assert_close(model.frlp.whole.weight.grad, whole, atol=1e-7, rtol=1e-4)


def test_unknown_heads_are_refused() -> None:
    model, batch = model_and_batch()
    model.language_model.config.final_logit_softcapping = 30.0
    with pytest.raises(ValueError, match="does not know the setting final_logit_softcapping"):
        model(**batch, answers_only=True)
    with pytest.raises(ValueError, match="answers_only needs labels"):
        model(input_ids=batch["input_ids"], answers_only=True)
