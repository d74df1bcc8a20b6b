"""Charts of a report as data addresses: no files, no network, the same bytes each time."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellava.errors import MissingExtra

COLOURS = ("#31688e", "#e08214", "#7a7a7a", "#35b779")
_STYLE: Any = {
    "svg.hashsalt": "facellava",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _need() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtra("data", "the charts of a report") from error


def address(data: bytes, media_type: str) -> str:
    """`data` as a ``data:`` address."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def bars(names: Sequence[str], series: Mapping[str, Sequence[float]], *, axis: str, title: str) -> str:
    """Horizontal bars, one group a name, one colour a series; an SVG as a data address."""
    _need()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    thick = 0.8 / len(series)
    with rc_context(_STYLE):
        figure = Figure(figsize=(7, 0.9 + 0.24 * len(names) * max(1, len(series) * 0.7)), layout="constrained")
        axes = figure.add_subplot()
        places = np.arange(len(names))
        for n, (label, values) in enumerate(series.items()):
            shift = (n - (len(series) - 1) / 2) * thick
            axes.barh(places + shift, list(values), thick, label=label, color=COLOURS[n % len(COLOURS)])
        axes.set_yticks(places, _plain(names))
        axes.invert_yaxis()
        axes.set_xlabel(axis)
        axes.set_title(title, loc="left", fontsize=10)
        if len(series) > 1:
            axes.legend(frameon=False)
        return _svg(figure)


def heatmap(rows: Sequence[str], columns: Sequence[str], counts: NDArray[np.int_], *, axis: str, title: str) -> str:
    """Counts (r, c) coloured by their share of a row and written into the cells; an SVG as a data address."""
    _need()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with rc_context(_STYLE):
        figure = Figure(figsize=(2.2 + 0.62 * len(columns), 1.5 + 0.42 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(np.arange(len(columns)), _plain(columns), rotation=45, ha="right")
        axes.set_yticks(np.arange(len(rows)), _plain(rows))
        axes.set_xlabel(axis)
        axes.set_title(title, loc="left", fontsize=10)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
        return _svg(figure)


def curve(x: Sequence[float], y: Sequence[float], *, x_axis: str, y_axis: str, title: str) -> str:
    """Points joined by a line in the unit square, with the diagonal; an SVG as a data address."""
    _need()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(3.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=COLOURS[2], linewidth=1, linestyle="--")
        axes.plot(list(x), list(y), color=COLOURS[0], marker="o", markersize=4)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=x_axis, ylabel=y_axis)
        axes.set_title(title, loc="left", fontsize=10)
        return _svg(figure)


def histogram(edges: Sequence[str], counts: Sequence[int], *, axis: str, title: str) -> str:
    """Upright bars over bins; an SVG as a data address."""
    _need()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(7, 2.4), layout="constrained")
        axes = figure.add_subplot()
        axes.bar(np.arange(len(counts)), list(counts), 0.9, color=COLOURS[0])
        axes.set_xticks(np.arange(len(edges)), _plain(edges), rotation=60)
        axes.set_xlabel(axis)
        axes.set_title(title, loc="left", fontsize=10)
        return _svg(figure)


def _plain(names: Sequence[str]) -> list[str]:
    # a dollar sign would start a formula
    return [name.replace("$", r"\$") for name in names]


def _svg(figure: Any) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return address(file.getvalue(), "image/svg+xml")


def word_cloud(counts: Mapping[str, int]) -> str:
    """Words sized by their counts (Fig. 10); a PNG as a data address."""
    try:
        from wordcloud import WordCloud
    except ImportError as error:
        raise MissingExtra("data", "the word clouds of a report") from error

    cloud = WordCloud(width=640, height=300, background_color="white", random_state=0, max_words=80, colormap="viridis")
    return png(cloud.generate_from_frequencies(dict(counts)).to_array())


def png(pixels: NDArray[np.uint8]) -> str:
    """uint8 (H, W, 3) as a PNG data address."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return address(file.getvalue(), "image/png")
