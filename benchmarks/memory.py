"""Peak memory of an answer about one photograph, each side in a process of its own.

``python benchmarks/memory.py ours PHOTO`` and ``... peer PHOTO FOLDER`` are those processes: they load the default, see
the face, write 60 tokens and print the most memory that they ever held. The peer opens a folder in transformers' own
format (``... save FOLDER`` writes it) with the Auto classes and shares front end and face experts with ours, which must
not have loaded torch.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

QUESTION = "Describe this face."
NEW_TOKENS = 60


def ours(photo: Path) -> str:
    """The way of the command line."""
    import facellava

    model = facellava.load(threads=1, progress=False)
    (clip, *_) = model.clips(photo)[1]
    text = "".join(model.engine.ask(model.engine.look(clip), QUESTION, max_new_tokens=NEW_TOKENS, ignore_stop=True))
    assert "torch" not in sys.modules and "transformers" not in sys.modules
    return text


def peer(photo: Path, folder: Path) -> str:
    """The way of transformers."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    import facellava  # noqa: F401 - tells the Auto classes about the model

    torch.set_num_threads(1)
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        batch = processor(images=str(photo), text=QUESTION)
        ids = model.generate(**batch, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
    return processor.decode(ids[0, batch["input_ids"].shape[1] :])


def save(folder: Path) -> str:
    """The default as transformers keeps models."""
    from facellava import weights
    from facellava.runtime.torch_model import load_torch

    for part in load_torch(weights.resolve):
        part.save_pretrained(folder)
    return ""


def peak_bytes() -> int:
    """Of this process. On Linux ``ru_maxrss`` begins with the peak of the parent that forked it, so VmHWM is read."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(*args: object) -> tuple[int, str]:
    """(peak bytes, text) of one side in a fresh process."""
    command = [sys.executable, __file__, *map(str, args)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    said = json.loads(done.stdout.splitlines()[-1])
    return said["peak"], said["text"]


def rows(rounds: int) -> list[dict[str, object]]:
    """Peak memory of both sides, in turn; ``rounds`` above 3 would tell nothing more."""
    from PIL import Image
    from skimage.data import astronaut

    with tempfile.TemporaryDirectory() as name:
        photo, folder = Path(name) / "photo.png", Path(name) / "model"
        Image.fromarray(astronaut()).save(photo)
        subprocess.run([sys.executable, __file__, "save", str(folder)], check=True, capture_output=True)
        turns = [(measure("ours", photo), measure("peer", photo, folder)) for _ in range(min(rounds, 3))]
    pairs = sorted(other / own for (own, _), (other, _) in turns)
    own, other = (sorted(turn[i][0] for turn in turns)[len(turns) // 2] for i in (0, 1))
    ratio = pairs[len(pairs) // 2]
    same = "yes" if turns[0][0][1].strip() == turns[0][1][1].strip() else "no"
    return [
        {
            "name": "peak memory, one photograph and 60 tokens, int8",
            "peer": "transformers, fp32",
            "ours_mb": round(own / 1e6),
            "peer_mb": round(other / 1e6),
            "ratio": round(ratio, 2),
            "pairs": [round(pair, 2) for pair in pairs],
            "goal": 3,
            "met": ratio >= 3,
            "at_most_mb": 700,
            "threads": 1,
            "accuracy": f"same text: {same}",
            "load": round(os.getloadavg()[0], 1),
        }
    ]


if __name__ == "__main__":
    side, *places = sys.argv[1:]
    written = {"ours": ours, "peer": peer, "save": save}[side](*map(Path, places))
    print(json.dumps({"peak": peak_bytes(), "text": written}))
