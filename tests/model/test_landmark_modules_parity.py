"""FRLP and FRGCA against the paper's equations in float64 and against the official release in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from model_helpers import close
from torch import Tensor, nn

from facellava.model.frgca import FaceRegionGuidedCrossAttention
from facellava.model.frlp import FaceRegionLandmarkProjector
from facellava.model.official_keys import fusion_state, landmark_state
from facellava.model.regions import REGIONS, patch_centroids, region_centroids

PAPER, OFFICIAL = 1e-12, 1e-5


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def paper_frlp(fixture) -> FaceRegionLandmarkProjector:
    frlp = FaceRegionLandmarkProjector(32).double()
    local = {f"region_layers.{k}": v for k, v in fixture.weights_under("local.").items()}
    frlp.load_state_dict(landmark_state(local, fixture.weights_under("global.")))
    return frlp


def paper_frgca(fixture, **settings) -> FaceRegionGuidedCrossAttention:
    frgca = FaceRegionGuidedCrossAttention(32, 8, "paper", grid=16, **settings).double()
    names = {"q": "query", "k": "key", "v": "value", "out": "out"}
    frgca.load_state_dict({f"{names[k.split('.')[0]]}.{k.split('.')[1]}": fixture.weight[k]
                           for k in fixture.weight if k.split(".")[0] in names})  # fmt: skip
    return frgca


def points(flat: Tensor) -> Tensor:
    """(b, 136) or (b, t, 136) -> (b, t, 68, 2)."""
    return (flat if flat.ndim == 3 else flat[:, None]).unflatten(-1, (68, 2))


def test_regions_cover_every_point_once_in_order():
    covered = [i for r in REGIONS for i in range(r.start, r.stop)]
    assert covered == list(range(68))
    assert [r.size for r in REGIONS] == [17, 5, 5, 4, 5, 6, 6, 12, 8]


def test_region_and_patch_centroids(parity):
    fixture = parity("paper_frgca")
    np.testing.assert_allclose(
        region_centroids(fixture.input["landmarks"].numpy()),
        fixture.output["region_centroids"].numpy(),
        atol=PAPER,
    )
    np.testing.assert_allclose(patch_centroids(16), fixture.output["patch_centroids"].numpy(), atol=PAPER)
    # 3 patches a side: the second one lies to the right of the first, not below.
    np.testing.assert_allclose(patch_centroids(3)[1], [0.5, 1 / 6])


def test_frlp_equals_equations_2_to_4(parity):
    fixture = parity("paper_frgca")
    frlp, landmarks = paper_frlp(fixture), fixture.input["landmarks"]
    close(frlp.local_tokens(landmarks), fixture.output["h_local"], PAPER)
    close(frlp.global_token(landmarks)[:, :, 0], fixture.output["h_global"], PAPER)
    close(frlp(landmarks), fixture.output["h_l"], PAPER)


def test_frlp_equals_official_projectors(parity):
    region, whole = parity("official_region_projector"), parity("official_global_projector")
    frlp = FaceRegionLandmarkProjector(32)
    frlp.load_state_dict(landmark_state(region.weight, whole.weight))
    for kind in ("image", "video"):
        landmarks = points(region.input[f"{kind}_landmarks"])
        local, globe = region.output[kind], whole.output[kind]
        if kind == "image":
            local, globe = local[:, None], globe[:, None]
        close(frlp.local_tokens(landmarks), local, OFFICIAL)
        close(frlp.global_token(landmarks)[:, :, 0], globe, OFFICIAL)
        close(frlp(landmarks), local + globe[:, :, None], OFFICIAL)


@pytest.mark.parametrize(("local", "globe", "tokens"), [(True, False, 9), (False, True, 1), (True, True, 9)])
def test_frlp_parts(local, globe, tokens):
    frlp = FaceRegionLandmarkProjector(16, use_local=local, use_global=globe)
    assert frlp.num_tokens == tokens
    assert frlp(torch.rand(2, 3, 68, 2)).shape == (2, 3, tokens, 16)
    with pytest.raises(ValueError, match="use_local"):
        FaceRegionLandmarkProjector(16, use_local=False, use_global=False)


def test_frlp_shares_the_release_parameter_count():
    count = sum(p.numel() for p in FaceRegionLandmarkProjector(4096).parameters())
    assert count == 593_920 + 561_152


def test_paper_fusion_equals_equations_5_and_6(parity):
    fixture = parity("paper_frgca")
    landmarks, visual = fixture.input["landmarks"], fixture.input["visual"]
    tokens, frgca = paper_frlp(fixture)(landmarks), paper_frgca(fixture)
    close(frgca.proximity(landmarks, 256), fixture.output["rpp_mask"], PAPER)
    out = frgca(visual, tokens, landmarks, need_attention=True)
    close(out.visual, fixture.output["visual"], PAPER)
    close(out.attention[:1, :1], fixture.output["attention_first_frame"], PAPER)
    close(out.attention.sum(-1), torch.ones(2, 3, 8, 256, dtype=torch.float64), PAPER)
    assert frgca(visual, tokens, landmarks).attention is None


def test_paper_fusion_variants(parity):
    fixture = parity("paper_frgca")
    landmarks, visual = fixture.input["landmarks"][:1, :1], fixture.input["visual"][:1, :1]
    tokens = paper_frlp(fixture)(landmarks)
    full = paper_frgca(fixture, scale="model")(visual, tokens, landmarks).visual
    close(full, fixture.output["visual_scale_full_dim_first_frame"], PAPER)
    unmasked = paper_frgca(fixture, mask=False)(visual, tokens, landmarks).visual
    close(unmasked, fixture.output["visual_without_mask_first_frame"], PAPER)
    with_cls = torch.cat([fixture.input["visual_cls_first"], visual], dim=2)
    expected = fixture.output["visual_cls257_first_frame"]
    close(paper_frgca(fixture, has_cls=True)(with_cls, tokens, landmarks).visual, expected, PAPER)
    close(paper_frgca(fixture)(with_cls, tokens, landmarks, has_cls=True).visual, expected, PAPER)


def test_official_simple(parity):
    fixture = parity("official_cross_attn_simple")
    frgca = FaceRegionGuidedCrossAttention(32, 8, "official_simple", grid=16)
    frgca.load_state_dict(fusion_state(fixture.weight))
    somewhere = torch.rand(2, 8, 68, 2)  # the unmasked variant must not look at places
    for kind in ("image", "image256", "video"):
        visual, tokens = fixture.input[f"{kind}_visual"], fixture.input[f"{kind}_landmark_tokens"]
        expected = fixture.output[kind]
        if kind != "video":
            visual, tokens, expected = visual[:, None], tokens[:, None], expected[:, None]
        places = somewhere[: len(visual), : visual.shape[1]]
        close(frgca(visual, tokens, places).visual, expected, OFFICIAL)
    first = frgca(fixture.input["image_visual"][:1, None], fixture.input["image_landmark_tokens"][:1, None],
                  somewhere[:1, :1]).visual[:, 0]  # fmt: skip
    branch = (first - fixture.input["image_visual"][:1]) * 10
    close(fixture.input["image_visual"][:1] + branch, fixture.output["image_first_branch_scale_1"], OFFICIAL)


def test_official_masked_behind_the_compatibility_switch(parity):
    fixture = parity("official_cross_attn_masked")
    settings = {"fusion": "official_masked", "grid": 16, "has_cls": True}
    frgca = FaceRegionGuidedCrossAttention(32, 8, transposed_grid=True, **settings)
    frgca.load_state_dict(fusion_state(fixture.weight))
    for kind in ("image", "video"):
        visual, tokens = fixture.input[f"{kind}_visual"], fixture.input[f"{kind}_landmark_tokens"]
        close(
            frgca(visual, tokens, points(fixture.input[f"{kind}_landmarks"])).visual,
            fixture.output[kind],
            OFFICIAL,
        )
    landmarks = points(fixture.input["video_landmarks"])
    close(frgca.proximity(landmarks[:1], 257), fixture.output["video_mask_first"], OFFICIAL)
    straight = FaceRegionGuidedCrossAttention(32, 8, **settings)
    straight.load_state_dict(fusion_state(fixture.weight))
    out = straight(fixture.input["video_visual"], fixture.input["video_landmark_tokens"], landmarks).visual
    assert 1e-3 < (out - fixture.output["video"]).abs().max() < 0.01  # the axis matters: up to 0.009 is documented


def test_none_passes_through_without_parameters():
    frgca = FaceRegionGuidedCrossAttention(16, 4, "none", grid=3)
    visual = torch.randn(1, 2, 9, 16)
    out = frgca(visual, torch.randn(1, 2, 9, 16), torch.rand(1, 2, 68, 2))
    assert out.visual is visual
    assert out.attention is None
    assert not list(frgca.parameters())


def test_paper_fusion_has_four_linear_layers_and_no_norm():
    kinds = [type(m) for m in FaceRegionGuidedCrossAttention(16, 4, grid=3).children()]
    assert kinds == [nn.Linear] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 3}, "does not divide"),
        ({"transposed_grid": True}, "official_masked"),
    ],
)
def test_frgca_refuses_contradictions(settings, message):
    with pytest.raises(ValueError, match=message):
        FaceRegionGuidedCrossAttention(16, **{"heads": 4, **settings}, grid=3)


def test_masked_fusion_says_when_tokens_do_not_fit():
    frgca, landmarks = FaceRegionGuidedCrossAttention(16, 4, grid=3), torch.rand(1, 1, 68, 2)
    with pytest.raises(ValueError, match="expects 9 visual tokens"):
        frgca(torch.randn(1, 1, 10, 16), torch.randn(1, 1, 9, 16), landmarks)
    with pytest.raises(ValueError, match="9 region tokens"):
        frgca(torch.randn(1, 1, 9, 16), torch.randn(1, 1, 1, 16), landmarks)


def test_nearer_regions_get_more_attention():
    """With equal scores the mask alone decides: each patch looks most at the region that lies nearest."""
    frgca = FaceRegionGuidedCrossAttention(16, 4, grid=7)
    for p in frgca.parameters():
        p.zero_()
    landmarks = torch.rand(1, 1, 68, 2, generator=torch.Generator().manual_seed(3))
    attention = frgca(torch.randn(1, 1, 49, 16), torch.randn(1, 1, 9, 16), landmarks, need_attention=True).attention
    gaps = patch_centroids(7)[:, None] - region_centroids(landmarks[0, 0].numpy())[None]
    nearest = np.linalg.norm(gaps, axis=-1).argmin(-1)
    assert attention[0, 0].argmax(-1).tolist() == [nearest.tolist()] * 4


def test_shapes_are_checked():
    with pytest.raises(TypeCheckError):
        FaceRegionLandmarkProjector(16)(torch.rand(2, 68, 2))
