"""Detector, mesh and blendshapes against MediaPipe's own pipeline.

The default suite compares with recorded results (`record_mediapipe.py`); the slow test runs MediaPipe itself on some
300 pictures. MediaPipe rarely fits into this package's environment: FACELLAVA_MEDIAPIPE_PYTHON names another Python
that has it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facellava.face import BlazeFaceDetector, MeshLandmarker
from facellava.face.nms import iou

MIN_MEAN_IOU = 0.99
BORDERLINE = 0.52


def pictures(rows: dict[str, dict], faces: Path | None, astronaut: np.ndarray) -> Iterator[tuple[np.ndarray, dict]]:
    for name, row in rows.items():
        if name == "astronaut":
            yield astronaut, row
        elif faces is not None:
            yield np.asarray(Image.open(faces / name).convert("RGB")), row


def compare(detector: BlazeFaceDetector, pairs: Iterator[tuple[np.ndarray, dict]]) -> list[float]:
    """IoU of every face that either side found; 0 for one that the other side lacks.

    Ours that barely pass the threshold are no surplus: versions of OpenCV round samples differently.
    """
    result = []
    for picture, row in pairs:
        found = detector.detect(picture)
        ours = [d.box for d in found]
        theirs = np.array(row["boxes"]).reshape(-1, 4)
        matched = [float(iou(box, np.stack(ours)).max()) if ours else 0.0 for box in theirs]
        certain = sum(d.score > BORDERLINE for d in found)
        result += matched + [0.0] * max(0, certain - len(theirs))
    return result


def test_astronaut_box_is_mediapipes(
    detector: BlazeFaceDetector, recorded: dict[str, dict], astronaut: np.ndarray
) -> None:
    row = recorded["astronaut"]
    (found,) = detector.detect(astronaut)
    assert iou(found.box, np.array(row["boxes"]))[0] > MIN_MEAN_IOU
    assert found.score == pytest.approx(row["scores"][0], abs=0.01)


def test_boxes_of_sixty_faces_are_mediapipes(
    detector: BlazeFaceDetector, recorded: dict[str, dict], shared_dir: Path, astronaut: np.ndarray
) -> None:
    ious = compare(detector, pictures(recorded, shared_dir / "faces", astronaut))
    assert len(ious) >= 60
    assert np.mean(ious) >= MIN_MEAN_IOU
    assert np.min(ious) >= 0.95


def test_landmarks_and_blendshapes_are_mediapipes(
    detector: BlazeFaceDetector,
    landmarker: MeshLandmarker,
    recorded: dict[str, dict],
    astronaut: np.ndarray,
) -> None:
    shared = Path(__file__).resolve().parents[3] / "shared" / "faces"
    faces = shared if shared.is_dir() else None
    errors, ours, theirs = [], [], []
    for picture, row in pictures(recorded, faces, astronaut):
        if not row["points68"] or len(row["boxes"]) != 1:
            continue
        result = landmarker(picture, detector.detect(picture)[0])
        assert result is not None
        points = np.array(row["points68"])
        eyes = np.linalg.norm(points[36] - points[45])
        errors.append(np.linalg.norm(result.points68 - points, axis=1).mean() / eyes)
        ours.append(result.blendshapes)
        theirs.append(row["blendshapes"])
    assert np.mean(errors) < 0.005
    assert np.corrcoef(np.ravel(ours), np.ravel(theirs))[0, 1] > 0.99


@pytest.mark.slow
def test_live_mediapipe(
    detector: BlazeFaceDetector,
    shared_dir: Path,
    astronaut: np.ndarray,
    resolve: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    python = os.environ.get("FACELLAVA_MEDIAPIPE_PYTHON")
    task = os.environ.get("FACELLAVA_FACE_LANDMARKER_TASK")
    if python is None and importlib.util.find_spec("mediapipe"):
        python = sys.executable
    if not python or not task:
        pytest.skip(
            "needs FACELLAVA_MEDIAPIPE_PYTHON (a Python with mediapipe==0.10.21 and scikit-image) "
            "and FACELLAVA_FACE_LANDMARKER_TASK (the face_landmarker.task file)"
        )
    script, out = Path(__file__).parent / "record_mediapipe.py", tmp_path / "live.json"
    subprocess.run(
        [python, script, shared_dir / "faces", task, out, "130", "130", "90"], check=True, capture_output=True
    )
    ious = compare(detector, pictures(json.loads(out.read_text()), shared_dir / "faces", astronaut))
    assert len(ious) >= 300
    print(f"{len(ious)} faces: mean IoU {np.mean(ious):.4f}, least {np.min(ious):.4f}")
    assert np.mean(ious) >= MIN_MEAN_IOU
