"""Describes a real face: NASA's portrait of the astronaut Eileen Collins (public domain), which scikit-image carries.

Run by ``make demo``. Does what these two commands do, and says how long it took:

    facellava analyze demo-output/astronaut.png --overlay demo-output/astronaut-overlay.png
    facellava ask demo-output/astronaut.png "Describe the face."
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from facellava.cli import run

OUT = Path(__file__).resolve().parents[1] / "demo-output"
PHOTO, OVERLAY = OUT / "astronaut.png", OUT / "astronaut-overlay.png"


def save_photo() -> None:
    """Write the photo, once."""
    if PHOTO.exists():
        return
    from PIL import Image
    from skimage.data import astronaut

    OUT.mkdir(exist_ok=True)
    Image.fromarray(astronaut()).save(PHOTO)


def main() -> int:
    """Exit code of the first command that fails, else 0."""
    save_photo()
    start = time.perf_counter()
    code = run(["analyze", str(PHOTO), "--overlay", str(OVERLAY)])
    if code:
        return code
    print(f"all five tasks in {time.perf_counter() - start:.1f} s, loading included; picture: {OVERLAY}")
    print("facellava ask demo-output/astronaut.png 'Describe the face.'")
    return run(["ask", str(PHOTO), "Describe the face."])


if __name__ == "__main__":
    sys.exit(main())
