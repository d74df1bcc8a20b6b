"""Our benchmarks as tables of VLMEvalKit, which reads any ``$LMUData/NAME.tsv``.

Columns: ``index``, the picture (``image`` in base64, or ``image_path``), ``question``, ``answer``, ``category``, and
``A``, ``B``, ... for a closed question; a list in a picture's column is the frames of a video. ``id``, ``fold`` and
``task`` are ours; VLMEvalKit carries them into its predictions, by which ``predictions.py`` reads them back. Interface:
https://github.com/open-compass/VLMEvalKit/blob/main/docs/en/Development.md
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from facellava.errors import UsageError
from facellava.evaluation.benchmark import Benchmark, Item, read_items
from facellava.evaluation.harness.pictures import Faces, Shown, show
from facellava.evaluation.harness.questions import question
from facellava.face import read_media
from facellava.files import write_atomic
from facellava.instruct.prompts import label_text

PREFIX = "facellava_"
PICTURES = "facellava_pictures"
ORIENTATION = 0x0112  # EXIF
OPEN = "_openended"
"""In a name it tells VLMEvalKit that there is nothing to choose from."""


class Exported(NamedTuple):
    """The table's name for ``--data``, its path, its rows, and sample id -> why a sample is not in it."""

    name: str
    path: Path
    rows: int
    left_out: dict[str, str]


def export_vlmeval(
    benchmark: Benchmark,
    out: Path,
    *,
    limit: int = 0,
    choices: bool = True,
    faces: Faces = "crop",
    embed: bool = True,
    workers: int = 1,
) -> Exported:
    """Write ``out/facellava_NAME.tsv``; ``out`` is VLMEvalKit's ``$LMUData``.

    Args:
        benchmark: with the roots of its sources (``load_benchmark(name, roots)``).
        limit: at most so many samples of each source and fold, 0 for all.
        choices: give a question with one right label options A, B, ..., so that VLMEvalKit can count the answers;
            without them, and for other questions, it only collects answers, for ``import_predictions``.
        faces: the ``crop`` that ``facellava eval`` shows to others, or the ``whole`` picture.
        embed: pictures inside the table; else their absolute paths, with crops in ``out/facellava_pictures``.
        workers: processes that make crops, 0 for one a core.

    Raises:
        UsageError: nothing can be shown. SourceLayout, LabelUnknown: of the readers.
    """
    items = read_items(benchmark, limit=limit)
    closed = choices and benchmark.spec.kind == "single" and len(benchmark.names) <= len(ascii_uppercase)
    samples = [item.sample for item in items]
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) if embed else (out / PICTURES).resolve()
        options: Any = {"faces": faces, "policy": benchmark.policy, "workers": workers}
        pictures = show(samples, folder, split_videos=True, **options)
        if not pictures.found:
            reason = next(iter(pictures.left_out.values()))
            raise UsageError(f"{benchmark.name}: none of {len(items)} samples can be shown; the first: {reason}")
        kept = [(item, pictures.found[item.sample.id]) for item in items if item.sample.id in pictures.found]
        rows = [_row(benchmark, n, item, shown, closed, embed) for n, (item, shown) in enumerate(kept)]
    name = PREFIX + benchmark.name + ("" if closed else OPEN)
    write_atomic(out / f"{name}.tsv", _table(rows))
    return Exported(name, out / f"{name}.tsv", len(rows), pictures.left_out)


def _row(benchmark: Benchmark, number: int, item: Item, shown: Shown, closed: bool, embed: bool) -> dict[str, str]:
    sample = item.sample
    truth = label_text(benchmark.task, sample.label)
    row = {"index": str(number), "id": sample.id, "task": benchmark.task, "fold": str(item.fold)}
    if embed:
        pictures = [_portable(path) for path in shown.files]
        row["image"] = _one_or_list([base64.b64encode(data).decode() for data in pictures])
        # named by content: VLMEvalKit keeps the pictures that it decoded, also when the table is written anew
        row["image_path"] = _one_or_list([f"{hashlib.sha256(data).hexdigest()[:20]}.png" for data in pictures])
    else:
        row["image_path"] = _one_or_list([str(path) for path in shown.files])
    row["question"] = question(benchmark, item, len(shown.files))
    if not closed:
        return {**row, "answer": truth, "category": benchmark.task}
    options = dict(zip(ascii_uppercase, benchmark.names, strict=False))
    letter = next(letter for letter, name in options.items() if name == sample.label)
    return {**row, **options, "answer": letter, "category": truth}


def _portable(path: Path) -> bytes:
    """A file that plain Pillow shows upright: as it is where it does, else as PNG."""
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.format in ("JPEG", "PNG") and picture.getexif().get(ORIENTATION, 1) == 1:
                return data
    except UnidentifiedImageError:
        pass  # such as HEIC, which needs a plugin
    buffer = io.BytesIO()
    Image.fromarray(read_media(data, max_frames=1).frames[0]).save(buffer, "PNG")
    return buffer.getvalue()


def _one_or_list(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else repr(list(values))


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
