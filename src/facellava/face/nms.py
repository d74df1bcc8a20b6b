"""Weighted non-maximum suppression: overlapping candidates are averaged, not discarded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["iou", "weighted_nms"]


def iou(box: NDArray[np.floating], boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Intersection over union of one box (4,) with many (N, 4), as x0, y0, x1, y1."""
    top_left = np.maximum(box[:2], boxes[:, :2])
    bottom_right = np.minimum(box[2:], boxes[:, 2:])
    inner = np.prod(np.clip(bottom_right - top_left, 0, None), axis=1)
    area = np.prod(box[2:] - box[:2])
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return inner / np.maximum(area + areas - inner, 1e-12)


def weighted_nms(
    values: NDArray[np.floating], scores: NDArray[np.floating], threshold: float = 0.3
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """MediaPipe's WEIGHTED suppression.

    The best candidate gathers all that overlap it by more than `threshold`; its coordinates become their mean
    weighted by score, its score stays the best one.

    Args:
        values: (N, 4 + K) coordinates, the box first.
        scores: (N,) confidences.
        threshold: IoU above which two candidates are the same object.

    Returns:
        (M, 4 + K) and (M,), best score first.
    """
    order = np.argsort(-scores, kind="stable")
    values, scores = values[order], scores[order]
    kept_values, kept_scores = [], []
    while len(scores):
        same = iou(values[0, :4], values[:, :4]) > threshold
        same[0] = True  # a degenerate box overlaps nothing, not even itself
        kept_values.append(np.average(values[same], axis=0, weights=scores[same]))
        kept_scores.append(scores[0])
        values, scores = values[~same], scores[~same]
    if not kept_values:
        return values, scores
    return np.stack(kept_values), np.asarray(kept_scores)
