"""Media in, typed results out: the one path that the command line, Python, the server and evaluation all use."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from facellava import tasks as task_registry
from facellava import weights
from facellava.consistency import contradictions
from facellava.errors import MissingExtra, UsageError
from facellava.face import Detected, FaceFrontEnd, Limits, Policy, largest, read_media
from facellava.face.crop import square_around
from facellava.model.regions import REGION_NAMES
from facellava.results import FaceResult, MediaResult
from facellava.runtime.build import DEFAULT_MODEL, Progress, ensure_built
from facellava.types import FaceClip, Media, MediaKind, Precision

if TYPE_CHECKING:
    from facellava.runtime.constrained import Constraint
    from facellava.runtime.engine import Engine, Seen

__all__ = ["Analyzer", "load"]

Mode = Literal["full", "movements"]
MAX_THREADS = 4
THREADS_A_CORE = 4
MOVEMENT_TASKS = ("action_units",)
"""What ``mode="movements"`` reports: muscle movement, no claim about expression, age or authenticity."""


class Analyzer:
    """A loaded model with its face front end. Safe to share between threads: calls take turns.

    Args:
        engine: see ``runtime.engine``.
        resolve: weight name -> local path.
        threads: threads of the front end's networks.
    """

    def __init__(self, engine: Engine, resolve: Callable[[str], Path], *, threads: int = 1) -> None:
        self.engine = engine
        self._resolve, self._threads = resolve, threads
        self._fronts: dict[Policy, FaceFrontEnd] = {}
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """Name of the model, as it appears in results."""
        return self.engine.name

    def clips(
        self, source: str | Path | bytes | np.ndarray, *, policy: Policy = "all", limits: Limits | None = None
    ) -> tuple[Media, list[FaceClip]]:
        """Decode a picture or video and find its faces, cropped as this model was trained.

        Args:
            limits: what is refused before decoding, see ``facellava.face.Limits``.

        Raises:
            FacellavaError: the medium cannot be read or shows no face; see ``facellava.errors``.
        """
        media = read_media(source, limits=limits)
        return media, self.faces(media, policy=policy)

    def faces(self, media: Media, *, policy: Policy = "all") -> list[FaceClip]:
        """The faces of a medium that was decoded already, as :meth:`clips` finds them."""
        return self.find(media, policy=policy).clips

    def find(self, media: Media, *, policy: Policy = "all") -> Detected:
        """The faces of a medium that was decoded already, and the boxes of all that may be one."""
        with self._lock:
            if policy not in self._fronts:
                engine = self.engine
                self._fronts[policy] = FaceFrontEnd(
                    self._resolve, margin=engine.margin, crop=engine.crop, policy=policy, threads=self._threads
                )
            return self._fronts[policy].find(media)

    def analyze(
        self,
        source: str | Path | bytes | np.ndarray,
        *,
        tasks: Sequence[str] | None = None,
        policy: Policy = "all",
        mode: Mode = "full",
        explain: bool = True,
    ) -> MediaResult:
        """Every face of a picture or video, typed.

        Args:
            source: path, bytes, or uint8 (H, W, 3) RGB array.
            tasks: names out of ``facellava.tasks.all_tasks()``; all of them by default.
            policy: ``all`` tracks every face; ``paper`` refuses clips that appendix E.1 drops.
            mode: ``movements`` reports action units only and makes no claim about expression.
            explain: False states the labels without the model's own words: several times faster.

        Raises:
            FacellavaError: nothing could be analysed; see ``facellava.errors``.
        """
        wanted = wanted_tasks(tasks, mode)
        media = read_media(source)
        found = self.find(media, policy=policy)
        shown = len(media.frames) // 2
        faces = self.describe(found.clips, wanted, media.kind, float(media.times[shown]), explain=explain)
        name = str(source) if isinstance(source, str | Path) else "<memory>"
        return MediaResult(
            media=name,
            kind=media.kind,
            model=self.name,
            faces=faces,
            frame=media.frames[shown],
            detections=found.boxes[shown],
        )

    def describe(
        self,
        clips: Sequence[FaceClip],
        tasks: Sequence[str],
        kind: MediaKind,
        moment: float,
        *,
        explain: bool = True,
        look: Callable[[FaceClip], Seen] | None = None,
    ) -> tuple[FaceResult, ...]:
        """The tasks of faces that were found already.

        Args:
            tasks: see ``wanted_tasks``.
            moment: seconds of the representative frame.
            look: reads a face; without it the engine does, where more is wanted than its head's labels.
        """
        with self._lock:
            if look is None:
                labels = not explain and all(self.engine.scores_by_head(name) for name in tasks)
                look = self.engine.glance if labels else self.engine.look
            return tuple(self._face(clip, tasks, kind, moment, explain, look) for clip in clips)

    def ask(
        self,
        source: str | Path | bytes | np.ndarray,
        question: str,
        *,
        face: int | None = None,
        stream: bool = False,
        max_new_tokens: int = 200,
        constraint: Constraint | None = None,
    ) -> str | Iterator[str]:
        """Answer a free question about one face (the largest unless ``face`` names another).

        Args:
            constraint: the form of the answer, such as a JSON schema (``facellava.runtime.constrained``).

        Raises:
            FacellavaError: as :meth:`analyze`; UsageError for an unknown face number or an empty question.
        """
        if not question.strip():
            raise UsageError("the question is empty: ask something, e.g. 'What is the mouth doing?'")
        _, clips = self.clips(source)
        clip = chosen_face(clips, face)

        def pieces() -> Iterator[str]:
            with self._lock:
                seen = self.engine.look(clip)
                found = self.engine.ask(seen, question.strip(), max_new_tokens=max_new_tokens, constraint=constraint)
            # a turn is one piece: whoever stops reading, or reads on in another thread, keeps nobody waiting
            while True:
                with self._lock:
                    piece = next(found, None)
                if piece is None:
                    return
                yield piece

        return pieces() if stream else "".join(pieces())

    def _face(
        self,
        clip: FaceClip,
        wanted: Sequence[str],
        kind: MediaKind,
        moment: float,
        explain: bool,
        look: Callable[[FaceClip], Seen],
    ) -> FaceResult:
        from facellava.answers import abstain, answer_task, reason_to_abstain

        nearest = int(np.abs(clip.times - moment).argmin())
        common: dict[str, Any] = {
            "id": clip.face_id,
            "box": tuple(float(v) for v in clip.boxes[nearest]),
            "quality": clip.quality,
            "spans": clip.spans,
            "landmarks": _source_landmarks(clip, nearest),
        }
        reason = reason_to_abstain(clip)
        if reason is not None:
            return FaceResult(**common, **dict[str, Any]((name, abstain(name, reason)) for name in wanted))
        seen = look(clip)
        results: dict[str, Any] = {
            name: answer_task(self.engine, seen, task_registry.get(name), kind, explain=explain) for name in wanted
        }
        shares = map(float, seen.region_attention)
        attention = dict(zip(REGION_NAMES, shares, strict=True)) if seen.region_attention.size else {}
        notes = contradictions(results, clip.blendshapes)
        return FaceResult(**common, **results, notes=notes, region_attention=attention)


def chosen_face(clips: Sequence[FaceClip], face: int | None) -> FaceClip:
    """The face of this number, the largest one for None. Raises UsageError for a number that there is not."""
    if face is None:
        return largest(clips)
    for clip in clips:
        if clip.face_id == face:
            return clip
    raise UsageError(f"there is no face {face}: found faces {', '.join(str(c.face_id) for c in clips)}")


def wanted_tasks(tasks: Sequence[str] | None, mode: Mode) -> list[str]:
    """Names of tasks in canonical order, all of them for None.

    Raises:
        UsageError: an unknown task, or one that ``mode="movements"`` does not report.
    """
    if mode == "movements":
        refused = [t for t in tasks or () if t not in MOVEMENT_TASKS]
        if refused:
            raise UsageError(f"mode 'movements' reports action units only, not {', '.join(refused)}")
        return list(MOVEMENT_TASKS)
    if tasks is None:
        return list(task_registry.all_tasks())
    asked = {task_registry.get(name).name for name in tasks}
    return [name for name in task_registry.all_tasks() if name in asked]


def _source_landmarks(clip: FaceClip, frame: int) -> np.ndarray:
    """Landmarks of one frame from crop fractions back to source pixels."""
    square = square_around(clip.boxes[frame], clip.margin, clip.crop)
    return (clip.landmarks[frame] * square.side + (square.x, square.y)).astype(np.float32)


def load(
    model: str | None = None,
    *,
    threads: int | None = None,
    precision: Precision | None = None,
    progress: bool | Progress = True,
    offline: bool | None = None,
) -> Analyzer:
    """The default model, ready to use; pulls and builds what is missing on first use (about 120 MB).

    Args:
        model: folder of a trained model (the small default's difference, or ``final`` of a run, which needs the torch
            extra and uses a GPU where there is one); the shipped default when None.
        threads: CPU threads, at most four for each core; by default all cores, but no more than four: the model is
            small.
        precision: of the language model's weights. The small default has ``int8`` (without a wish) and ``fp32``. A
            trained folder has ``bf16`` and ``fp32`` (without a wish, what suits the device) and ``int8``; ``int4``, and
            ``int8`` on a GPU, need the quantize extra and a GPU. All but its linear layers stays whole.
        progress: show progress on a terminal, or a callback (what, done, total).
        offline: never contact a package index.

    Raises:
        FacellavaError: weights cannot be had, the cache cannot be written, the folder holds no model, or the model has
            no such precision. UsageError: too many threads.
    """
    from facellava.runtime.onnx_engine import OnnxEngine

    building: Progress | None = progress if callable(progress) else (_print_progress if progress else None)
    pulling = progress if callable(progress) else (weights.TerminalProgress() if progress else None)

    def resolve(name: str) -> Path:
        return weights.resolve(name, offline=offline, progress=pulling)

    source = Path(model) if model is not None else DEFAULT_MODEL
    cores = os.cpu_count() or 1
    n = threads or min(MAX_THREADS, cores)
    if n > THREADS_A_CORE * cores:
        raise UsageError(f"{n} threads on {cores} cores: choose at most {THREADS_A_CORE * cores}")
    if (source / "config.json").is_file() and not (source / "model.json").is_file():
        return Analyzer(_torch_engine(source, resolve, n, precision), resolve, threads=n)
    if precision not in (None, "int8", "fp32"):
        raise UsageError(f"the small default has precision int8 or fp32, not {precision}")
    folder = ensure_built(source, weights.cache_dir(), resolve, precision=precision or "int8", progress=building)
    return Analyzer(OnnxEngine(folder, resolve, threads=n), resolve, threads=n)


def _torch_engine(folder: Path, resolve: Callable[[str], Path], threads: int, precision: Precision | None) -> Engine:
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtra("torch", f"the model in {folder}") from error
    from facellava.runtime.torch_engine import TorchEngine

    torch.set_num_threads(threads)
    return TorchEngine(folder, resolve, precision=precision or "")


def _print_progress(what: str, done: int, total: int) -> None:
    """One line on standard error that rewrites itself; silent when nobody is watching."""
    if sys.stderr.isatty():
        end = "\n" if done >= total and total > 1 else ""
        sys.stderr.write(f"\r\033[K{what} {done}/{total}{end}")
        sys.stderr.flush()
