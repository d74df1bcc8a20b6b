"""Manipulated faces made from real ones, for the authenticity task of the default model.

Three kinds, all confined to the face region of a 256 x 256 crop and blended back with a soft mask: *self-blend* (the
same face, slightly moved, re-coloured and re-sampled; Shiohara and Yamasaki, CVPR 2022), *swap* (another person's
face warped onto the landmarks) and *warp* (mouth and eyes displaced as re-enactment does). Real and fake pictures go
through :func:`recompress` with the same distribution of qualities and sizes, so that neither betrays the label.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Kind = Literal["self_blend", "swap", "warp"]
KINDS: tuple[Kind, ...] = ("self_blend", "swap", "warp")
SIZE = 256
Image = np.ndarray
"""uint8 (256, 256, 3) RGB; OpenCV types what it returns no closer."""
Points = NDArray[np.float32]


def face_mask(landmarks: Points, rng: np.random.Generator) -> NDArray[np.float32]:
    """Soft mask (256, 256, 1) of the landmarks' hull, randomly grown or shrunk and feathered. Landmarks in [0, 1]."""
    hull = cv2.convexHull((landmarks * SIZE).astype(np.int32))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(mask, hull, 255)
    size = int(rng.integers(3, 15)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    mask = cv2.erode(mask, kernel) if rng.random() < 0.6 else cv2.dilate(mask, kernel)
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), float(rng.uniform(1.5, 7)))
    return (soft * rng.choice([0.75, 1.0, 1.0, 1.0]))[..., None]


def _recolour(image: Image, rng: np.random.Generator) -> Image:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-4, 4)) % 180
    hsv[..., 1] *= rng.uniform(0.85, 1.15)
    hsv[..., 2] = hsv[..., 2] * rng.uniform(0.92, 1.08) + rng.uniform(-8, 8)
    hsv[..., 1:] = hsv[..., 1:].clip(0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def _resample(image: Image, rng: np.random.Generator) -> Image:
    """What a generator's own resolution does: down and up again, or sharpened."""
    if rng.random() < 0.3:
        soft = cv2.GaussianBlur(image, (0, 0), 1.5)
        return cv2.addWeighted(image, 1.6, soft, -0.6, 0)
    side = int(rng.integers(96, 180))
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def _shift(image: Image, rng: np.random.Generator) -> Image:
    angle, scale = rng.uniform(-3, 3), rng.uniform(0.95, 1.05)
    matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), angle, scale)
    matrix[:, 2] += rng.uniform(-6, 6, 2)
    return cv2.warpAffine(image, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)


def _displace(image: Image, landmarks: Points, rng: np.random.Generator) -> Image:
    """Smooth displacement field that moves the mouth and one eye region by a few pixels."""
    field = np.zeros((SIZE, SIZE, 2), np.float32)
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="xy"), -1).astype(np.float32)
    for region in (slice(48, 60), slice(36, 42), slice(42, 48)):
        centre = landmarks[region].mean(0) * SIZE
        radius = rng.uniform(14, 30)
        weight = np.exp(-((grid - centre) ** 2).sum(-1) / (2 * radius**2))
        field += weight[..., None] * rng.uniform(-9, 9, 2).astype(np.float32)
    flow = grid + field
    return cv2.remap(image, flow[..., 0], flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _transplant(donor: Image, donor_landmarks: Points, landmarks: Points, target: Image) -> Image:
    """The donor's face moved onto the target's landmarks, with the target's colour statistics."""
    matrix, _ = cv2.estimateAffine2D(donor_landmarks[17:] * SIZE, landmarks[17:] * SIZE, method=cv2.LMEDS)
    moved = cv2.warpAffine(donor, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT).astype(np.float32)
    inside = slice(64, 192)
    source, goal = moved[inside, inside].reshape(-1, 3), target[inside, inside].reshape(-1, 3).astype(np.float32)
    moved = (moved - source.mean(0)) / (source.std(0) + 1) * (goal.std(0) + 1) + goal.mean(0)
    return moved.clip(0, 255).astype(np.uint8)


def make_fake(
    image: Image, landmarks: Points, kind: Kind, rng: np.random.Generator, donor: tuple[Image, Points] | None = None
) -> Image:
    """A manipulated copy of ``image`` (256, 256, 3) RGB; ``landmarks`` (68, 2) in [0, 1]; ``swap`` needs a donor."""
    if kind == "swap":
        assert donor is not None, "a swap needs a donor face"
        inner = _resample(_transplant(*donor, landmarks, image), rng)
    elif kind == "warp":
        inner = _displace(image, landmarks, rng)
    else:
        inner = _resample(_shift(_recolour(image, rng), rng), rng)
    mask = face_mask(landmarks, rng)
    return (inner * mask + image * (1 - mask)).round().clip(0, 255).astype(np.uint8)


def recompress(image: Image, rng: np.random.Generator) -> Image:
    """The same treatment for real and fake: an optional re-scale, then JPEG at a random quality."""
    if rng.random() < 0.5:
        side = int(rng.integers(150, SIZE))
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    quality = int(rng.integers(60, 98))
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "OpenCV reads what it wrote"
    return decoded[..., ::-1].copy()


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """What worse cameras and lights make of a picture: few pixels, blur, noise, other tones, no colour."""
    side = int(np.exp(rng.uniform(np.log(40), np.log(SIZE))))
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_CUBIC)
    tones = (image.astype(np.float32) / 255) ** float(np.exp(rng.uniform(-0.5, 0.5)))
    tones = (tones - 0.5) * rng.uniform(0.7, 1.3) + 0.5 + rng.uniform(-0.1, 0.1)
    if rng.random() < 0.3:
        tones = tones.mean(2, keepdims=True).repeat(3, 2)
    if rng.random() < 0.3:
        tones = tones + rng.normal(0, rng.uniform(0.01, 0.06), tones.shape)
    pixels = (tones * 255).round().clip(0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "OpenCV reads what it wrote"
    return decoded[..., ::-1].copy()
