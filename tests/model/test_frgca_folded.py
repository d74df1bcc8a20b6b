"""FRGCA with folded projections against the plain products: the same outputs and attention, and only where it pays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_helpers import close
from torch import Tensor, nn

from facellava.model import frgca as frgca_module
from facellava.model import frgca_folded
from facellava.model.frgca import FaceRegionGuidedCrossAttention, FusionOutput
from facellava.model.frgca_folded import Projections, attend_folded, pays

KINDS = ("paper", "official_simple", "official_masked")
GRID, DIM = 7, 64
"""With one head and nine keys just large enough to be folded."""

Inputs = tuple[Tensor, Tensor, Tensor]


def block(
    kind: str, dim: int = DIM, heads: int = 1, grid: int = GRID, **options: Any
) -> FaceRegionGuidedCrossAttention:
    torch.manual_seed(0)
    return FaceRegionGuidedCrossAttention(dim, heads, kind, grid=grid, **options).eval()


def inputs(dim: int = DIM, tokens: int = GRID**2, keys: int = 9, batch: int = 2, frames: int = 3) -> Inputs:
    g = torch.Generator().manual_seed(1)
    visual, regions = (torch.randn(batch, frames, n, dim, generator=g) for n in (tokens, keys))
    return visual, regions, torch.rand(batch, frames, 68, 2, generator=g)


def both(frgca: FaceRegionGuidedCrossAttention, given: Inputs, **options: Any) -> tuple[FusionOutput, FusionOutput]:
    """Folded and plain, whatever the sizes."""
    found = []
    for fold in (True, False):
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(frgca_module, "pays", lambda *_, fold=fold: fold)
            found.append(frgca(*given, need_attention=True, **options))
    return found[0], found[1]


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every folded pass."""
    calls: list[int] = []

    def spy(*given: Any) -> Any:
        calls.append(1)
        return attend_folded(*given)

    monkeypatch.setattr(frgca_module, "attend_folded", spy)
    return calls


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    heads=st.sampled_from([1, 2, 4, 8]),
    width=st.integers(1, 6),
    grid=st.integers(1, 5),
    frames=st.integers(1, 3),
    has_cls=st.booleans(),
    mask=st.booleans(),
    scale=st.sampled_from(["head", "model"]),
    transposed=st.booleans(),
)
def test_any_setting_gives_the_same_in_double_precision(
    kind: str, heads: int, width: int, grid: int, frames: int, has_cls: bool, mask: bool, scale: str, transposed: bool
) -> None:
    frgca = block(
        kind,
        heads * width,
        heads,
        grid,
        has_cls=has_cls,
        mask=mask,
        scale=scale,
        transposed_grid=transposed and kind == "official_masked",
    ).double()
    visual, regions, landmarks = (
        x.double() for x in inputs(heads * width, grid**2 + has_cls, 9 if frgca.masked else 3, 2, frames)
    )
    folded, plain = both(frgca, (visual, regions, landmarks))
    close(folded.visual, plain.visual, 1e-12)
    assert folded.attention is not None and plain.attention is not None
    assert folded.attention.shape == (2, frames, heads, grid**2 + has_cls, regions.shape[2])
    close(folded.attention, plain.attention, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_less_exact_than_the_plain_products(kind: str, dtype: torch.dtype) -> None:
    """In every precision the distance to double precision is at most twice the plain one's, plus one rounding."""
    frgca, given = block(kind, 128, 8), inputs(128)
    truth = both(frgca.double(), tuple(x.double() for x in given))[1]
    folded, plain = both(frgca.to(dtype), tuple(x.to(dtype) for x in given))
    rounded = both(frgca.double(), tuple(x.to(dtype).double() for x in given))[1]
    for part in (0, 1):
        loss = [(out[part].double() - truth[part]).abs().max().item() for out in (folded, plain, rounded)]
        assert loss[0] <= 2 * max(loss[1:]) + torch.finfo(dtype).eps, (part, loss)


@pytest.mark.parametrize("kind", KINDS)
def test_inference_folds_and_training_does_not(kind: str, folds: list[int]) -> None:
    frgca, given = block(kind), inputs()
    with torch.no_grad():
        folded = frgca(*given)
        assert folded.attention is None
    assert len(folds) == 1
    trained = frgca(*given)
    assert trained.visual.requires_grad
    with torch.no_grad():
        frgca.train()(*given)
    assert len(folds) == 1
    close(folded.visual, trained.visual.detach(), 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_cls_tokens_and_inference_mode(kind: str, folds: list[int]) -> None:
    frgca, given = block(kind), inputs(tokens=GRID**2 + 1)
    with torch.inference_mode():
        folded = frgca(*given, need_attention=True, has_cls=True)
    assert len(folds) == 1
    close(folded.visual, both(frgca, given, has_cls=True)[1].visual, 1e-5)
    assert folded.attention is not None
    close(folded.attention.sum(-1), torch.ones(folded.attention.shape[:-1]), 1e-5)


def test_many_keys_are_not_folded() -> None:
    """Parsing maps bring as many keys as there are patches, the default's width is worth it, tiny models are not."""
    frgca = block("paper", 576, 8)
    layers = Projections(frgca.query, frgca.key, frgca.value, frgca.out)
    visual = torch.empty(1, 1, 49, 576)
    assert pays(layers, visual, 9, 8)
    assert not pays(layers, visual, 49, 8)
    assert not pays(layers, torch.empty(1, 1, 8, 576), 9, 8)


class Adapted(nn.Linear):
    """Stands for any layer that does more than its weight says: an adapter, four bits."""


def test_layers_that_are_more_than_their_weight_are_not_folded(folds: list[int]) -> None:
    given = inputs()
    for name in ("query", "out"):
        frgca = block("paper")
        setattr(frgca, name, Adapted(DIM, DIM))
        with torch.no_grad():
            frgca(*given)
    absent = block("paper")
    absent.query.weight = nn.Parameter(torch.empty(0))  # as ZeRO-3 leaves it between calls
    layers = Projections(absent.query, absent.key, absent.value, absent.out)
    assert not pays(layers, given[0], 9, 1)
    assert not pays(layers, given[0].double(), 9, 1)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        block("paper")(*given)
    assert not folds


def test_a_layer_without_projection_may_be_adapted_elsewhere() -> None:
    """Key and value are called as they are, so adapters around them count."""
    frgca, given = block("paper"), inputs()
    frgca.key = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh())
    folded, plain = both(frgca, given)
    close(folded.visual, plain.visual, 1e-5)


def test_the_release_is_met_by_folded_products(parity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixtures are too small to be folded by themselves."""
    from facellava.model.official_keys import fusion_state

    monkeypatch.setattr(frgca_folded, "WORTH", 0)
    fixture = parity("official_cross_attn_simple")
    frgca = block("official_simple", 32, 8, 16)
    frgca.load_state_dict(fusion_state(fixture.weight))
    with torch.no_grad():
        out = frgca(fixture.input["video_visual"], fixture.input["video_landmark_tokens"])
    close(out.visual, fixture.output["video"], 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_width_of_seven_billion_parameters(kind: str, folds: list[int]) -> None:
    frgca = block(kind, 4096, 8, 16, has_cls=True)
    given = inputs(4096, 257, 9, 1, 1)
    folded, plain = both(frgca, given)
    assert len(folds) == 1
    close(folded.visual, plain.visual, 1e-5)
    assert folded.attention is not None and plain.attention is not None
    close(folded.attention, plain.attention, 1e-5)
