"""What the pages' commands find in their folder: a photo, a video, open faces where there are some."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
from docs_blocks import ROOT
from PIL import Image

FACES = ROOT.parent / "shared" / "faces"
"""Stands for FACES of the pages; absent for most people."""


def furnish(folder: Path) -> None:
    """Put the files there that pages speak of: photo.jpg, photos/, clip.mp4, schema.json, answers.jsonl, ..."""
    from skimage.data import astronaut

    portrait = astronaut()
    for name in ("photo.jpg", "photos/1.jpg", "photos/2.jpg", "demo-output/astronaut.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(portrait).save(path)
    _film(portrait[:256, 96:352], folder / "clip.mp4")
    (folder / "more").mkdir()
    shutil.copy(folder / "clip.mp4", folder / "more" / "clip.mp4")
    schema = {"type": "object", "properties": {"smiling": {"type": "boolean"}}, "required": ["smiling"]}
    (folder / "schema.json").write_text(json.dumps(schema))
    (folder / "answers.jsonl").write_text('{"text": "The person looks happy; the lip corners are up."}\n')
    for name in ("docs", "examples", "benchmarks", "src", "tests"):
        (folder / name).symlink_to(ROOT / name)
    if FACES.is_dir():
        (folder / "FACES").symlink_to(FACES)


def _film(frame: np.ndarray, path: Path) -> None:
    """A second of H.264 in which the picture drifts a little; (H, W, 3) RGB, even sides."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], "yuv420p"
        for shift in range(12):
            moved = np.roll(frame, shift, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), format="rgb24")))
        container.mux(stream.encode())
