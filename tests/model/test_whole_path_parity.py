"""Tower features to fused tokens, and tokens into the text, against the official release."""

from __future__ import annotations

import pytest
import torch
from model_helpers import close
from torch import Tensor

from facellava.model.config import ClipVisionConfig, FaceLlavaConfig, FusionConfig
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.official_keys import model_state

ATOL = 1e-5
THEIR_PLACEHOLDER = -200
VISION = ClipVisionConfig(width=48, layers=1, select_layer=-1, heads=4, mlp=48, video_cls=True)


def build(fusion: FusionConfig, state: dict[str, Tensor], vision: ClipVisionConfig = VISION):
    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
            "num_key_value_heads": 4, "vocab_size": 40}  # fmt: skip
    model = FaceLlavaForConditionalGeneration(
        FaceLlavaConfig(vision=vision, fusion=fusion, text_config=text, image_token_id=40)
    )
    report = model.load_state_dict(model_state(state), strict=False)
    assert not report.unexpected_keys
    assert all(k.startswith(("vision_tower.", "language_model.")) for k in report.missing_keys)
    return model.eval()


def points(flat: Tensor) -> Tensor:
    return (flat if flat.ndim == 3 else flat[:, None]).unflatten(-1, (68, 2))


@torch.no_grad()
def test_encode_path(parity):
    fixture = parity("official_encode_path")
    model = build(FusionConfig(kind="official_simple"), fixture.weight)
    for kind, axis in (("image", 1), ("video", None)):
        features, expected = fixture.input[f"{kind}_tower_features"], fixture.output[kind]
        if axis is not None:
            features, expected = features.unsqueeze(axis), expected.unsqueeze(axis)
        seen = model.encode_visual(
            vision_features=features, landmarks=points(fixture.input[f"{kind}_landmarks"]), need_attention=True
        )
        close(seen.tokens, expected.flatten(1, 2), ATOL)
        assert seen.tokens.shape[1] == model.num_visual_tokens(features.shape[1])
        assert seen.attention.shape == (*features.shape[:2], 8, features.shape[2], 9)


@torch.no_grad()
def test_without_landmarks_only_when_the_configuration_says_so(parity):
    fixture = parity("official_encode_path")
    features = fixture.input["image_tower_features"][:1, None]
    with pytest.raises(ValueError, match="landmarks are missing"):
        build(FusionConfig(kind="official_simple"), fixture.weight).encode_visual(vision_features=features)
    projector_only = {k: v for k, v in fixture.weight.items() if "mm_projector" in k}
    plain = build(FusionConfig(kind="none", landmarks="none"), projector_only)
    seen = plain.encode_visual(vision_features=features)
    close(seen.tokens, fixture.output["image_no_landmarks_first"], ATOL)


def expand(ids: Tensor, labels: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Their convention, one placeholder a frame, to ours, one a visual token."""
    placeholder = ids == THEIR_PLACEHOLDER
    counts = torch.where(placeholder, tokens, 1)
    ours = ids.masked_fill(placeholder, 40).repeat_interleave(counts)
    return ours, labels.masked_fill(placeholder, -100).repeat_interleave(counts)


@torch.no_grad()
def test_splice(parity):
    fixture = parity("official_splice")
    state = {f"model.{k}": v for k, v in fixture.weight.items()}
    model = build(FusionConfig(kind="none", landmarks="none"), state)
    for row, kind in enumerate(("image", "video")):
        real = fixture.input["attention_mask"][row]
        features = fixture.input[f"{kind}_tower_features"]
        features = features[:, None] if kind == "image" else features
        ids, labels = expand(
            fixture.input["input_ids"][row][real], fixture.input["labels"][row][real], features.shape[2]
        )
        embeds = model.embed(ids[None], model.encode_visual(vision_features=features).tokens)
        kept = fixture.output["attention_mask"][row]
        assert int(kept.sum()) == len(ids)  # 12 for the image, 53 for the video
        close(embeds[0], fixture.output["inputs_embeds"][row][kept], ATOL)
        assert labels.tolist() == fixture.output["labels"][row][kept].tolist()
