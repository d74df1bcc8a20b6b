"""Draws the figures of the documentation: ``python docs/figures/draw.py [FOLDER]``.

Plain SVG out of face.json (see measure.py) and the package's own geometry: the same input gives the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellava.files import write_atomic
from facellava.model.regions import REGIONS, patch_centroids, region_centroids

HERE = Path(__file__).resolve().parent
COLOURS = ("#4c5b70", "#b3541e", "#b3541e", "#1f7a4d", "#6a4ca0", "#1762a8", "#1762a8", "#b02a4c", "#8a6d00")
"""A colour for each region; the two brows and the two eyes share theirs."""
CLOSED = ("right_eye", "left_eye", "lips", "teeth")
PAPER_GRID, LEVELS = 16, 32
Face = dict[str, Any]


def svg(width: int, height: int, parts: Iterable[str]) -> str:
    """A whole picture on white, so that it can be read on a dark page too."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def text(
    x: float, y: float, words: str, *, size: int = 13, anchor: str = "middle", colour: str = "#222", bold: bool = False
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
    weight = ' font-weight="bold"' if bold else ""
    return f"<text {place}{weight}>{escape(words)}</text>"


def outline(points: NDArray[np.floating], colour: str, *, closed: bool, width: float = 1.5) -> str:
    """A line through points (N, 2) of the picture."""
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    kind = "polygon" if closed else "polyline"
    return f'<{kind} points="{way}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>'


def face_lines(points: NDArray[np.floating], colours: Sequence[str], width: float = 1.5) -> list[str]:
    """The nine regions as lines; (68, 2) in the picture."""
    return [
        outline(points[region.start : region.stop], colour, closed=region.name in CLOSED, width=width)
        for region, colour in zip(REGIONS, colours, strict=True)
    ]


def regions(face: Face) -> str:
    """The points, the nine regions, and their centroids."""
    size, left, top = 420, 20, 20
    landmarks = np.array(face["landmarks"])
    points = landmarks * size + (left, top)
    parts = [f'<rect x="{left}" y="{top}" width="{size}" height="{size}" fill="#f6f6f4" stroke="#ccc"/>']
    parts += face_lines(points, COLOURS)
    for region, colour in zip(REGIONS, COLOURS, strict=True):
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>'
            for x, y in points[region.start : region.stop]
        ]
    for number, (x, y) in enumerate(region_centroids(landmarks) * size + (left, top)):
        aside = -10 if REGIONS[number].name == "lips" else 10
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[number]}" stroke="#fff" stroke-width="1.5"/>'
        )
        parts.append(text(x + aside, y + 4, str(number + 1), size=12, colour=COLOURS[number], bold=True))
    for number, region in enumerate(REGIONS):
        y = 60 + 38 * number
        parts.append(f'<circle cx="470" cy="{y}" r="9" fill="{COLOURS[number]}"/>')
        parts.append(text(470, y + 4, str(number + 1), size=11, colour="#fff", bold=True))
        name = f"{region.name.replace('_', ' ')}: points {region.start} to {region.stop - 1}"
        parts.append(text(488, y + 4, name, anchor="start"))
    return svg(690, 460, parts)


def shade(level: int) -> str:
    """Of ``LEVELS`` steps from white to dark blue."""
    ends = np.array([[255, 255, 255], [14, 60, 120]])
    red, green, blue = np.rint(ends[0] + (ends[1] - ends[0]) * level / (LEVELS - 1)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def heat(layer: NDArray[np.floating], left: float, top: float, side: float) -> str:
    """A grid of values (g, g), from its lowest (white) to its highest (dark): one path for each shade."""
    levels = np.rint((layer - layer.min()) / (np.ptp(layer) or 1.0) * (LEVELS - 1)).astype(int)
    paths = []
    for level in np.unique(levels):
        cells = "".join(f"M{column} {row}h1v1h-1z" for row, column in np.argwhere(levels == level))
        paths.append(f'<path d="{cells}" fill="{shade(int(level))}"/>')
    place = f"translate({left} {top}) scale({side / len(layer):.4f})"
    return f'<g transform="{place}" shape-rendering="crispEdges">{"".join(paths)}</g>'


def maps(face: Face, values: NDArray[np.floating], title: str) -> str:
    """Nine grids (g, g, 9) of values with the face's lines over them and their range beside the region's name."""
    side, gap = 190, 24
    landmarks = np.array(face["landmarks"])
    parts = [text(332, 24, title, size=15, bold=True)]
    for number, region in enumerate(REGIONS):
        left, top = 20 + (number % 3) * (side + gap), 62 + (number // 3) * (side + gap + 20)
        layer = values[..., number]
        label = f"{region.name.replace('_', ' ')}: {layer.min():.2f} to {layer.max():.2f}"
        parts += [text(left + side / 2, top - 7, label), heat(layer, left, top, side)]
        colours = ["#b02a4c" if other is region else "#e0a030" for other in REGIONS]
        parts += face_lines(landmarks * side + (left, top), colours, width=1.2)
        parts.append(f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#888"/>')
    return svg(664, 754, parts)


def mask(face: Face) -> str:
    """Equation 5 over the paper's 16 x 16 patches: the nearer a patch to a region's centroid, the darker."""
    centroids = region_centroids(np.array(face["landmarks"]))
    distances = np.linalg.norm(patch_centroids(PAPER_GRID)[:, None] - centroids[None], axis=-1)
    values = -distances.reshape(PAPER_GRID, PAPER_GRID, len(REGIONS))
    return maps(face, values, "Equation 5: minus the distance from each patch to each region")


def attention(face: Face) -> str:
    """FRGCA of the shipped model: how much each of its 7 x 7 patches asks each region."""
    values = np.array(face["attention"])
    return maps(face, values, "FRGCA in the default model: share of each region in a patch's attention")


def box(x: float, y: float, width: float, lines: Sequence[str], *, colour: str = "#1762a8") -> list[str]:
    """A rounded box with a bold first line."""
    height = 20 + 17 * len(lines)
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="#fff" stroke="{colour}"/>']
    return parts + [
        text(x + width / 2, y + 22 + 17 * number, line, size=13 if number == 0 else 12, bold=number == 0)
        for number, line in enumerate(lines)
    ]


def arrow(*points: tuple[float, float]) -> str:
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{way}" fill="none" stroke="#555" stroke-width="1.5" marker-end="url(#tip)"/>'


def path(face: Face) -> str:
    """The way from a picture to an answer, with what this face gave on it."""
    tip = '<path d="M0,0 L9,4.5 L0,9 z" fill="#555"/>'
    marker = f'<marker id="tip" markerWidth="9" markerHeight="9" refX="8" refY="4.5" orient="auto">{tip}</marker>'
    parts = [f"<defs>{marker}</defs>"]
    parts.append('<rect x="20" y="60" width="150" height="150" fill="#f6f6f4" stroke="#ccc"/>')
    parts += face_lines(np.array(face["landmarks"]) * 150 + (20, 60), COLOURS, width=1.2)
    parts += [text(95, 30, "find, track, crop", bold=True), text(95, 48, "256 x 256, 68 points, per frame", size=11)]
    parts += box(215, 40, 190, ["face experts, CLIP", "maps of the crop, 7 x 7"])
    parts += box(
        215, 180, 190, ["FRLP (equations 2 to 4)", "9 regions + the whole face", "become tokens"], colour="#1f7a4d"
    )
    parts += box(450, 40, 190, ["projector (equation 1)", "49 visual tokens"])
    parts += box(
        450, 180, 190, ["FRGCA (equations 5, 6)", "patches ask regions,", "near ones weigh more"], colour="#1f7a4d"
    )
    parts += box(215, 310, 190, ["calibrated head", "probabilities, abstention"], colour="#b02a4c")
    parts += box(450, 310, 190, ["its report, in words", *face["report"].splitlines()[:2], "..."], colour="#b02a4c")
    parts += box(685, 180, 175, ["language model", "face, report, question"], colour="#6a4ca0")
    parts += box(685, 310, 175, ["typed results", "labels, ranges, notes"], colour="#6a4ca0")
    parts += [
        text(772, 120, face["question"], size=12, colour="#6a4ca0"),
        text(772, 272, "an answer in words", size=12, colour="#6a4ca0"),
    ]
    parts += [
        arrow((170, 80), (215, 68)),
        arrow((170, 190), (215, 214)),
        arrow((405, 68), (450, 68)),
        arrow((405, 216), (450, 216)),
        arrow((545, 94), (545, 180)),
        arrow((640, 208), (685, 208)),
        arrow((772, 128), (772, 180)),
        arrow((772, 234), (772, 258)),
        arrow((310, 94), (310, 130), (195, 130), (195, 337), (215, 337)),
        arrow((405, 337), (450, 337)),
        arrow((640, 325), (662, 325), (662, 224), (685, 224)),
        arrow((310, 364), (310, 420), (772, 420), (772, 364)),
    ]
    return svg(880, 440, parts)


FIGURES: dict[str, Callable[[Face], str]] = {"regions": regions, "mask": mask, "attention": attention, "path": path}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    face = json.loads((HERE / "face.json").read_text(encoding="utf-8"))
    for name, draw in FIGURES.items():
        write_atomic(folder / f"{name}.svg", draw(face))


if __name__ == "__main__":
    main()
