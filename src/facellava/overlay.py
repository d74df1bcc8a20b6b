"""A picture of a result: boxes, landmarks, attention per landmark region, and short labels.

Colours follow the attention: the more a region contributed to the answer, the stronger it is filled. Text is ASCII,
because the bundled font of Pillow promises no more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facellava.results import FaceResult, MediaResult

__all__ = ["REGION_POINTS", "blur_faces", "draw_overlay"]

REGION_POINTS = {
    "face_boundary": (0, 17),
    "right_brow": (17, 22),
    "left_brow": (22, 27),
    "nose": (27, 31),
    "nostril": (31, 36),
    "right_eye": (36, 42),
    "left_eye": (42, 48),
    "lips": (48, 60),
    "teeth": (60, 68),
}
"""Landmarks [start, end) of each region (section 4 of the paper), in iBUG-68 order."""

_CLOSED = {"right_eye", "left_eye", "lips", "teeth"}
_COLOURS = {
    "face_boundary": (160, 160, 160),
    "right_brow": (230, 159, 0),
    "left_brow": (240, 228, 66),
    "nose": (0, 114, 178),
    "nostril": (86, 180, 233),
    "right_eye": (0, 158, 115),
    "left_eye": (120, 200, 60),
    "lips": (213, 94, 0),
    "teeth": (204, 121, 167),
}
_BOX = (255, 255, 255)
_MOSAIC_CELLS = 6


def blur_faces(frame: NDArray[np.uint8], result: MediaResult) -> NDArray[np.uint8]:
    """A copy in which every face is replaced by at most 6 x 6 averaged cells, a quarter wider than its box.

    So is what the detector takes for a face and ``result`` does not describe.

    Args:
        frame: uint8 (H, W, 3) RGB.
    """
    out = frame.copy()
    height, width = frame.shape[:2]
    detected = [] if result.detections is None else result.detections.tolist()
    for x0, y0, x1, y1 in dict.fromkeys([*(face.box for face in result.faces), *map(tuple, detected)]):
        grow_x, grow_y = 0.125 * (x1 - x0), 0.125 * (y1 - y0)
        left, top = max(0, int(x0 - grow_x)), max(0, int(y0 - grow_y))
        right, bottom = min(width, int(np.ceil(x1 + grow_x))), min(height, int(np.ceil(y1 + grow_y)))
        if right <= left or bottom <= top:
            continue
        # averaged, not filtered: what is gone cannot be sharpened back
        patch = Image.fromarray(out[top:bottom, left:right])
        small = patch.resize((_MOSAIC_CELLS, _MOSAIC_CELLS), Image.Resampling.BOX)
        out[top:bottom, left:right] = np.asarray(small.resize(patch.size, Image.Resampling.BICUBIC))
    return out


def draw_overlay(frame: NDArray[np.uint8], result: MediaResult, *, blur: bool = False) -> NDArray[np.uint8]:
    """Draw every face of ``result`` onto a copy of ``frame``.

    Args:
        frame: uint8 (H, W, 3) RGB, the frame in whose pixels boxes and landmarks are.
        blur: make the faces unrecognisable, and leave out landmarks, which describe their shape.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    base = blur_faces(frame, result) if blur else frame
    image = Image.fromarray(base).convert("RGBA")
    unit = max(1.0, min(image.size) / 400)
    layer = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(layer)
    font = ImageFont.load_default(size=max(10.0, 11 * unit))
    for face in result.faces:
        if face.landmarks is not None and not blur:
            _regions(draw, face, unit)
        draw.rectangle(face.box, outline=(*_BOX, 255), width=round(1.5 * unit))
    for face in result.faces:  # labels last: no box crosses them
        _label(draw, image.size, face, font, unit)
    return np.asarray(Image.alpha_composite(image, layer).convert("RGB")).copy()


def _regions(draw: ImageDraw.ImageDraw, face: FaceResult, unit: float) -> None:
    assert face.landmarks is not None
    strongest = max(face.region_attention.values(), default=0.0)
    for name, (start, end) in REGION_POINTS.items():
        points = [(float(x), float(y)) for x, y in face.landmarks[start:end]]
        share = face.region_attention.get(name, 0.0) / strongest if strongest > 0 else 0.0
        colour = _COLOURS[name]
        if name in _CLOSED:
            draw.polygon(points, fill=(*colour, round(150 * share)))
            points = [*points, points[0]]
        draw.line(points, fill=(*colour, round(80 + 175 * share)), width=max(1, round((1 + 3 * share) * unit)))
        for x, y in points:
            draw.ellipse((x - unit, y - unit, x + unit, y + unit), fill=(*colour, 255))


def _words(face: FaceResult) -> list[str]:
    """One line per task that has something to say in short; the strongest three regions close the list."""
    lines = [f"face {face.id}"]
    if face.expression and face.expression.label:
        chance = face.expression.probabilities.get(face.expression.label)
        lines.append(face.expression.label + (f" {chance:.0%}" if chance is not None else ""))
    if face.action_units and face.action_units.active:
        lines.append(" ".join(face.action_units.active))
    if face.age and face.age.years is not None:
        span = f" ({face.age.range[0]}-{face.age.range[1]})" if face.age.range else ""
        lines.append(f"about {face.age.years} years{span}")
    if face.deepfake and face.deepfake.label == "fake":
        lines.append("possible manipulation")
    abstained = [name for name, task in face.tasks.items() if task.abstained]
    if abstained:
        lines.append("no statement: " + ", ".join(name.replace("_", " ") for name in abstained))
    return lines


def _legend(face: FaceResult) -> list[tuple[str, tuple[int, int, int]]]:
    top = sorted(face.region_attention.items(), key=lambda item: -item[1])[:3]
    return [(f"{name.replace('_', ' ')} {share:.0%}", _COLOURS.get(name, _BOX)) for name, share in top]


def _label(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    face: FaceResult,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    unit: float,
) -> None:
    """The text block right of the box, or wherever it still fits into the frame."""
    entries = [(line, _BOX) for line in _words(face)] + _legend(face)
    pad, step = 3 * unit, font.getbbox("Ag")[3] + 2 * unit
    width = max(draw.textlength(text, font=font) for text, _ in entries) + 2 * pad
    height = step * len(entries) + 2 * pad
    x0, y0, x1, _ = face.box
    left = x1 + pad if x1 + pad + width <= size[0] else x0 - pad - width
    left = min(max(0.0, left), max(0.0, size[0] - width))
    top = min(max(0.0, y0), max(0.0, size[1] - height))
    draw.rectangle((left, top, left + width, top + height), fill=(0, 0, 0, 170))
    for row, (text, colour) in enumerate(entries):
        draw.text((left + pad, top + pad + row * step), text, font=font, fill=(*colour, 255))
