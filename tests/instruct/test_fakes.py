"""Manipulated faces: confined to the face, different from the original, and not told apart by their compression."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facellava.instruct.fakes import KINDS, face_mask, make_fake, recompress


@pytest.fixture(scope="module")
def landmarks() -> np.ndarray:
    """A face-like arrangement in the middle of the crop: jaw, brows, nose, eyes, mouth on circles."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, np.pi, 17)
    jaw = np.stack([0.5 - 0.25 * np.cos(angles), 0.45 + 0.3 * np.sin(angles)], -1)
    inner = rng.uniform([0.35, 0.35], [0.65, 0.65], (51, 2))
    return np.concatenate([jaw, inner]).astype(np.float32)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    rng = np.random.default_rng(1)
    return cv2.GaussianBlur(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8), (0, 0), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_face_changes(kind: str, photo: np.ndarray, landmarks: np.ndarray) -> None:
    donor = (photo[:, ::-1].copy(), landmarks)
    fake = make_fake(photo, landmarks, kind, np.random.default_rng(3), donor)
    changed = np.abs(fake.astype(int) - photo).max(-1) > 2
    assert changed[90:170, 90:170].mean() > 0.1
    assert not changed[:25].any()
    assert not changed[:, :12].any()


def test_the_same_seed_makes_the_same_fake(photo: np.ndarray, landmarks: np.ndarray) -> None:
    pair = [make_fake(photo, landmarks, "self_blend", np.random.default_rng(7)) for _ in range(2)]
    np.testing.assert_array_equal(*pair)


def test_a_swap_without_a_donor_is_a_programming_error(photo: np.ndarray, landmarks: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="donor"):
        make_fake(photo, landmarks, "swap", np.random.default_rng(0))


def test_mask_is_soft_and_inside_the_crop(landmarks: np.ndarray) -> None:
    mask = face_mask(landmarks, np.random.default_rng(0))
    assert mask.shape == (256, 256, 1)
    assert 0 <= mask.min() < 0.01
    assert 0.7 < mask.max() <= 1
    assert ((mask > 0.1) & (mask < 0.6)).any()


def test_recompression_depends_on_the_seed_only(photo: np.ndarray) -> None:
    first, second = (recompress(photo, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == photo.shape
    assert 0 < np.abs(first.astype(int) - photo).mean() < 12
