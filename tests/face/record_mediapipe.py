"""Record what MediaPipe itself says about licensed faces, for the comparison in `test_mediapipe.py`.

Run it where `mediapipe==0.10.21` (the last release with models inside) and scikit-image are installed; that is rarely
the environment of this package, since MediaPipe pins old versions of numpy and protobuf:

    python tests/face/record_mediapipe.py SHARED_FACES FACE_LANDMARKER.task OUT.json [CONGRESS SFHQ RENDERS]

The three numbers say how many pictures of each set to take (default 30 20 10), evenly spread. The detector is
`mp.solutions.face_detection`, model 0, everything at its default, with its relative boxes turned into pixels (the
newer task rounds them to integers); mesh and blendshapes are the face landmarker task's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

DEFAULT_COUNTS = (30, 20, 10)
IBUG68 = Path(__file__).parents[2] / "src/facellava/face/mesh_facts.json"


def pictures(faces: Path, counts: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Name to RGB pixels; the astronaut needs no data folder."""
    from skimage import data

    result = {"astronaut": data.astronaut()}
    for folder, count in zip(("congress", "sfhq", "renders"), counts, strict=True):
        files = sorted((faces / folder).rglob("*.jpg"))
        for index in np.linspace(0, len(files) - 1, min(count, len(files))).astype(int):
            path = files[index]
            result[str(path.relative_to(faces))] = np.asarray(Image.open(path).convert("RGB"))
    return result


def main(faces: Path, task: Path, out: Path, counts: tuple[int, ...]) -> None:
    """Write one JSON object per picture: boxes and scores of all faces, 68 points and blendshapes of the first."""
    import mediapipe as mp

    vision = mp.tasks.vision
    options = vision.FaceLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(task)), output_face_blendshapes=True
    )
    ibug = json.loads(IBUG68.read_text())["mesh_to_ibug68"]
    rows = {}
    with (
        mp.solutions.face_detection.FaceDetection(model_selection=0) as detector,
        vision.FaceLandmarker.create_from_options(options) as landmarker,
    ):
        for name, pixels in pictures(faces, counts).items():
            height, width = pixels.shape[:2]
            row = {"boxes": [], "scores": [], "points68": None, "blendshapes": None}
            for found in detector.process(pixels).detections or []:
                b = found.location_data.relative_bounding_box
                corners = (
                    b.xmin * width,
                    b.ymin * height,
                    (b.xmin + b.width) * width,
                    (b.ymin + b.height) * height,
                )
                row["boxes"].append([round(v, 2) for v in corners])
                row["scores"].append(round(found.score[0], 4))
            mesh = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels))
            if mesh.face_landmarks:
                points = [mesh.face_landmarks[0][i] for i in ibug]
                row["points68"] = [[round(p.x * width, 2), round(p.y * height, 2)] for p in points]
                row["blendshapes"] = [round(c.score, 4) for c in mesh.face_blendshapes[0]]
            rows[name] = row
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    out.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        Path(sys.argv[3]),
        tuple(map(int, sys.argv[4:7])) or DEFAULT_COUNTS,
    )
