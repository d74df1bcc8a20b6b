"""A small world to build from: one portrait, varied; files that cannot be used; an annotator that follows rules."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import av
import numpy as np
from PIL import Image

ROWS = (
    ("happiness", "AU6;AU12;AU25", "Smiling;Young", 42, "real"),
    ("neutral", "", "Brown_Hair", 30, "fake"),
    ("surprise", "AU1;AU2", "Young", 8, "real"),
)


def portrait(number: int) -> np.ndarray:
    """uint8 (H, W, 3): the astronaut, mirrored, scaled, brightened."""
    import cv2
    from skimage.data import astronaut

    picture = astronaut()[:300, 80:380]
    if number % 2:
        picture = picture[:, ::-1]
    size = 220 + 7 * (number % 9)
    return cv2.convertScaleAbs(cv2.resize(picture, (size, size)), alpha=1.0 + 0.02 * (number % 5), beta=number % 11)


def video(path: Path, number: int, frames: int = 12) -> None:
    """An H.264 clip in which the portrait drifts by a pixel a frame."""
    picture = np.pad(portrait(number)[:216, :216], ((0, 24), (0, 24), (0, 0)), mode="edge")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"threads": "1"})
        stream.width = stream.height = 240
        stream.pix_fmt = "yuv420p"
        for t in range(frames):
            moved = np.roll(picture, (t, t), (0, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), format="rgb24")))
        container.mux(stream.encode(None))


def make_faces(root: Path, images: int = 12, videos: int = 2) -> int:
    """Fill ``root`` with media and ``labels.csv``; the number of samples in it, unusable ones included."""
    root.mkdir(parents=True, exist_ok=True)
    lines = ["file,subject,expression,action_units,attributes,age,authenticity"]
    files = []
    for n in range(images):
        Image.fromarray(portrait(n)).save(root / f"face{n:02}.png")
        files.append(f"face{n:02}.png")
    for n in range(videos):
        video(root / f"clip{n}.mp4", n)
        files.append(f"clip{n}.mp4")
    two = np.concatenate([portrait(0)[:216, :216], portrait(1)[:216, :216]], axis=1)
    Image.fromarray(two).save(root / "two.png")
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(root / "wall.png")
    (root / "empty.jpg").touch()
    (root / "notes.png").write_text("no picture")
    files += ["two.png", "wall.png", "empty.jpg", "notes.png", "gone.png"]
    samples = 0
    for n, file in enumerate(files):
        expression, units, attributes, age, real = ROWS[n % len(ROWS)]
        lines.append(f"{file},person{n},{expression},{units},{attributes},{age},{real}")
        samples += 3 + bool(units) + bool(attributes)
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return samples


def recipe_text(faces: Path, url: str | None = None, **annotate: object) -> str:
    """A recipe over ``make_faces``; with a service at ``url``, else without any."""
    text = f"""
name = "small"
[[sources]]
name = "folder"
root = "{faces}"
options = {{ redistribute = true, licence = "CC0" }}
[test]
per_task = 3
"""
    if url is None:
        return text
    more = "\n".join(f"{key} = {json.dumps(value)}" for key, value in annotate.items())
    service = f'kind = "openai"\nbase_url = "{url}"\ntimeout_s = 2.0\nfirst_wait = 0.02\nconcurrency = 4\n{more}\n'
    return f'{text}[annotate]\nmodel = "annotator-1"\n{service}[rate]\nmodel = "rater-1"\n{service}'


def draw(*parts: object) -> int:
    """A number that depends on the parts alone."""
    return int(hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:8], 16)


REASONS = {
    "action_units": "{names} can be told by the lifted cheeks, the stretched lips and the moved brows.",
    "attributes": "The face shows {names} in plain view, with even light from the left.",
    "age": "{names} years old. Fine lines around the eyes and a firm jaw line speak for it.",
    "deepfake": "{names}. The skin and the outline of the face in this picture speak for it.",
    "expression": "The brows, the eyelids and the lips together make the displayed {names}.",
}


def annotate(text: str) -> str:
    """What a fairly good annotator says: it explains the label that the prompt holds."""
    label = json.loads(re.search(r'\{"label": (.+?), "reason"', text).group(1))  # type: ignore[union-attr]
    if isinstance(label, list):
        task = "attributes" if "attributes" in text else "action_units"
        names = ", ".join(label)
        if not label:
            return json.dumps({"label": [], "reason": "The face is at rest, and no action unit is active anywhere."})
    else:
        task = "age" if isinstance(label, int) else "deepfake" if label in ("real", "fake") else "expression"
        names = str(label).capitalize() if task == "deepfake" else str(label)
    return json.dumps({"label": label, "reason": REASONS[task].format(names=names)})


def rate(text: str) -> str:
    """Marks from 5 to 10 that depend on the question alone."""
    names = ("label_accuracy", "description_media", "description_label", "overall")
    marks = {name: 5 + draw(text, name) % 6 for name in names}
    return json.dumps({"ratings": marks, "reason": "by rule"})


def is_rating(text: str) -> bool:
    return "four marks" in text
