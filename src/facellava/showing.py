"""Results as people look at them in a notebook: HTML, a data frame, a plot. Works on the dictionaries of ``results``.

Everything that comes from a file or a model is escaped: names of files are whatever somebody called them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facellava.errors import MissingExtra

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["TITLES", "data_frame", "face_html", "face_row", "media_html", "plot_faces", "said"]

TITLES = {
    "expression": "displayed expression",
    "action_units": "movements",
    "attributes": "attributes",
    "age": "apparent age",
    "deepfake": "authenticity",
}
_WIDEST = 640
"""Pixels of an embedded picture."""


def said(name: str, task: Mapping[str, Any]) -> str:
    """A task's dictionary in one line of plain text, in the wording of ``docs/responsible-use.md``."""
    if task["abstained"]:
        return f"no statement: {task['reason'] or 'the picture does not allow one'}"
    if task.get("label", "") is None or task.get("years", 0) is None:
        return "the answer makes no statement" if name == "deepfake" else "the answer names none"
    chances = task.get("probabilities", {})

    def part(label: str) -> str:
        shown = label.replace("_", " ")
        return f"{shown} {chances[label]:.0%}" if label in chances and name != "attributes" else shown

    if name == "age":
        low, high = task["range"] or (None, None)
        span = f", between {low} and {high}" if low is not None else ""
        return f"about {task['years']} years{span} (an estimate)"
    if name == "deepfake":
        found = "possible manipulation" if task["label"] == "fake" else "no sign of manipulation found"
        score = f" (model's score for manipulation: {chances['fake']:.0%})" if chances else ""
        return f"{found}{score}; this is no proof"
    if name == "expression":
        return part(task["label"])
    labels = task["active"] if name == "action_units" else task["present"]
    return ", ".join(map(part, labels)) or "none clearly visible"


def media_html(data: Mapping[str, Any], frame: NDArray[np.uint8] | None = None) -> str:
    """A medium's dictionary as HTML without scripts; ``frame`` (H, W, 3) is embedded with boxes over it."""
    title = f"<b>{escape(str(data['media']))}</b>"
    if data["error"]:
        return f"<div>{title}: {escape(data['error']['code'])}: {escape(data['error']['message'])}</div>"
    faces = data["faces"]
    head = f"{title}: {len(faces)} face{'' if len(faces) == 1 else 's'} ({escape(str(data['kind']))})"
    picture = "" if frame is None else _picture(frame, faces)
    return f"<div>{head}{picture}{''.join(map(face_html, faces))}</div>"


def face_html(face: Mapping[str, Any]) -> str:
    """A face's dictionary as a table."""
    rows = [(TITLES[name], said(name, task), task["text"]) for name, task in face["tasks"].items()]
    rows += [("note", note, "") for note in face["notes"]]
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(title)}</th><td style='text-align:left'>{escape(words)}"
        f"{f'<br><i>{escape(text)}</i>' if text else ''}</td></tr>"
        for title, words, text in rows
    )
    return f"<table><caption style='text-align:left'>face {int(face['id'])}</caption>{cells}</table>"


def _picture(frame: NDArray[np.uint8], faces: Sequence[Mapping[str, Any]]) -> str:
    height, width = frame.shape[:2]
    image = Image.fromarray(frame)
    image.thumbnail((_WIDEST, _WIDEST))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    source = base64.b64encode(file.getvalue()).decode()
    boxes = []
    for face in faces:
        x0, y0, x1, y1 = face["box"]
        place = f"left:{x0 / width:.2%};top:{y0 / height:.2%}"
        size = f"width:{(x1 - x0) / width:.2%};height:{(y1 - y0) / height:.2%}"
        style = f"position:absolute;box-sizing:border-box;border:2px solid #e69f00;{place};{size}"
        boxes.append(f"<div style='{style}' title='face {int(face['id'])}'></div>")
    img = f"<img alt='' src='data:image/jpeg;base64,{source}' style='display:block;max-width:100%'>"
    return f"<div style='position:relative;display:inline-block;overflow:hidden'>{img}{''.join(boxes)}</div>"


def face_row(face: Mapping[str, Any]) -> dict[str, Any]:
    """A face's dictionary as one flat row: lists joined by spaces, a column for each probability."""
    row: dict[str, Any] = {"face": face["id"], **dict(zip(("x0", "y0", "x1", "y1"), face["box"], strict=True))}
    row |= {f"quality.{name}": value for name, value in face["quality"].items()}
    for name, task in face["tasks"].items():
        for key, value in task.items():
            if key == "probabilities":
                row |= {f"{name}.p.{label}": chance for label, chance in value.items()}
            elif key == "range":
                row |= {f"{name}.low": value and value[0], f"{name}.high": value and value[1]}
            else:
                row[f"{name}.{key}"] = " ".join(value) if isinstance(value, list) else value
    return row


def data_frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Rows as a pandas data frame. Raises MissingExtra: pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("notebook", "to_frame()") from error
    return pandas.DataFrame([dict(row) for row in rows])


def plot_faces(title: str, faces: Sequence[Mapping[str, Any]]) -> Figure:
    """Bars of the probabilities of expressions and movements, a row a face.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtra("notebook", "plot()") from error
    names = [name for name in ("expression", "action_units") if any(name in face["tasks"] for face in faces)]
    figure = pyplot.figure(figsize=(4.5 * max(1, len(names)), 0.6 + 2.6 * max(1, len(faces))), layout="constrained")
    figure.suptitle(title.replace("$", r"\$"))  # no mathematics in names of files
    axes = figure.subplots(max(1, len(faces)), max(1, len(names)), squeeze=False)
    for row, face in zip(axes, faces, strict=False):
        for panel, name in zip(row, names, strict=True):
            _bars(panel, f"face {face['id']}: {TITLES[name]}", face["tasks"].get(name))
    # closed, so that a notebook shows what is returned and not the same a second time
    pyplot.close(figure)
    return figure


def _bars(panel: Any, title: str, task: Mapping[str, Any] | None) -> None:
    panel.set_title(title, fontsize="medium", loc="left")
    chances = {} if task is None else task["probabilities"]
    if not chances:
        reason = "not asked for" if task is None else task.get("reason") or "no statement"
        panel.text(0.5, 0.5, reason, ha="center", va="center", wrap=True)
        panel.set_axis_off()
        return
    panel.barh(list(chances), list(chances.values()), color="#0072b2")
    panel.invert_yaxis()
    panel.set_xlim(0, 1)
    panel.set_xlabel("probability")
