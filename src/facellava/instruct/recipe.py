"""A build's recipe: TOML in, frozen dataclasses out. The docstrings of the fields are their documentation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from facellava import settings
from facellava.errors import UsageError
from facellava.types import Crop

Kind = Literal["evidence", "experts", "recorded", "rules", "openai", "gemini", "facellava"]
PACKAGE = "facellava.instruct"
"""Its folder ``recipes`` holds the shipped ones."""
WITHOUT_MODEL = ("evidence", "experts", "recorded", "rules")


@dataclass(frozen=True)
class SourceConfig:
    """One dataset of a build.

    Attributes:
        name: of the reader (``facellava data sources``).
        root: folder of your copy; relative to the recipe; ``--root NAME=DIR`` replaces it.
        rename: name of this source in the build, where one reader is used twice.
        splits: official splits that are read; empty for all that the reader knows.
        tasks: keep samples of these tasks only; empty for all.
        limit: read at most so many samples of each split, 0 for all; which ones is fixed by their ids.
        options: the reader's own options.
    """

    name: str
    root: str = ""
    rename: str = ""
    splits: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    limit: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The source's name in this build."""
        return self.rename or self.name


@dataclass(frozen=True)
class PreprocessConfig:
    """How clips are made.

    Attributes:
        policy: ``paper`` drops clips in which the face leaves the frame, several faces appear or landmarks fail
            (appendix E.1); ``all`` takes the face nearest to the labelled box, or the largest.
        margin: how much wider than the detector's box the crop is; 0 as in the paper.
        detect_every: detect in every n-th frame of a video and interpolate between; 1 as in the paper.
        crop: ``centred`` on the box as in the paper, or from its ``corner`` as the official release cuts it.
    """

    policy: Literal["paper", "all"] = "paper"
    margin: float = 0.0
    detect_every: int = 1
    crop: Crop = "centred"


@dataclass(frozen=True)
class ServiceConfig:
    """Who annotates or rates.

    Attributes:
        kind: ``evidence``, ``experts`` (told no label), ``recorded`` (annotators), ``rules`` (rater), or a service:
            ``openai`` (any compatible endpoint), ``gemini``, ``facellava`` (our own server).
        model: pinned model id of the service.
        base_url: of the service; needed for ``openai`` and ``facellava``.
        key_env: environment variable that holds the key; empty where none is needed.
        concurrency: calls under way at once.
        requests_per_minute, tokens_per_minute: the service's limits, 0 for none.
        timeout_s, max_retries: for one call. first_wait: seconds before its first retry, doubled each time.
        price_input, price_output: money per million tokens, for the estimate and the cap.
        max_tokens: of one answer.
        attempts: how often an invalid answer is asked for again.
        batch: use the service's batch interface.
        file: ``recorded``: JSON lines with ``id`` and ``description``; empty to use the source's own descriptions.
        use_labels: False leaves the label out of the question (the ablation of Table 12).
    """

    kind: Kind
    model: str = ""
    base_url: str = ""
    key_env: str = ""
    concurrency: int = 8
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    timeout_s: float = 120.0
    max_retries: int = 6
    first_wait: float = 1.0
    price_input: float = 0.0
    price_output: float = 0.0
    max_tokens: int = 512
    attempts: int = 3
    batch: bool = False
    file: str = ""
    use_labels: bool = True

    @property
    def is_service(self) -> bool:
        """Whether pictures are sent to a service."""
        return self.kind not in WITHOUT_MODEL


@dataclass(frozen=True)
class FilterConfig:
    """Section 3.2: what a rating leads to.

    Attributes:
        enabled: False keeps everything (the ablation of Table 12).
        threshold: an overall rating at or below it removes the sample.
    """

    enabled: bool = True
    threshold: int = 6


@dataclass(frozen=True)
class HeldOutConfig:
    """Section 3.4: the test set.

    Attributes:
        per_task: samples a task; 0 for no test set.
        sources: where they come from; empty for every source with a ``test`` split, else all.
        share: at most this part of a class goes into the test set, so that small builds keep training data.
        official: rows of an official test split that are not chosen: ``leave`` the dataset, or ``train``, as in a build
            of many sources whose benchmarks are left out of training later (``setting``).
    """

    per_task: int = 500
    sources: tuple[str, ...] = ()
    share: float = 0.2
    official: Literal["train", "leave"] = "train"


@dataclass(frozen=True)
class BudgetConfig:
    """Caps over all paid calls of a build; 0 for none. Money in the unit of the recipe's prices."""

    tokens: int = 0
    money: float = 0.0


@dataclass(frozen=True)
class ExportConfig:
    """What is written beside the store of record.

    Attributes:
        formats: out of ``facellava data export --help``.
        shard_rows: rows of one Parquet file.
        blur: blur the faces in the report's pictures.
    """

    formats: tuple[str, ...] = ()
    shard_rows: int = 5000
    blur: bool = False


@dataclass(frozen=True)
class Recipe:
    """A whole build.

    Attributes:
        name, version: of the dataset. seed: fixes questions, selection and the evidence annotator's words.
        rate: None leaves rating out; then nothing is filtered either.
    """

    name: str
    sources: tuple[SourceConfig, ...]
    version: str = "1.0.0"
    description: str = ""
    seed: int = 0
    preprocess: PreprocessConfig = PreprocessConfig()
    annotate: ServiceConfig = ServiceConfig("evidence")
    rate: ServiceConfig | None = ServiceConfig("rules")
    filter: FilterConfig = FilterConfig()
    test: HeldOutConfig = HeldOutConfig()
    budget: BudgetConfig = BudgetConfig()
    export: ExportConfig = ExportConfig()

    def to_json(self) -> dict[str, Any]:
        """The recipe with every default filled in."""
        return dataclasses.asdict(self)

    @property
    def hash(self) -> str:
        """Of everything in it, for provenance."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]


def load_recipe(
    name: str,
    roots: Mapping[str, Path] | None = None,
    *,
    only: Sequence[str] | None = None,
    changes: Mapping[str, str] | None = None,
) -> Recipe:
    """A recipe from a file, or one of the shipped ones by name.

    Args:
        name: a path, or the name of a shipped recipe.
        roots: source (or its new name) -> folder, instead of what the recipe says.
        only: sources that are kept; None for all. changes: dotted key -> value, as TOML reads it.

    Raises:
        FileMissing: neither a file nor a shipped recipe. UsageError: unknown keys, wrong types, no root.
    """
    raw, base = settings.read_recipe(name, PACKAGE)
    settings.override(raw, changes or {})
    recipe = settings.build(Recipe, raw, name)
    if only:
        recipe = _without_others(recipe, only, name)
    return _with_roots(recipe, base, {} if roots is None else roots, name)


def _without_others(recipe: Recipe, only: Sequence[str], name: str) -> Recipe:
    labels = [source.label for source in recipe.sources]
    if unknown := set(only) - set(labels):
        raise UsageError(f"--only {min(unknown)}: {name} has no such source; it has {', '.join(labels)}")
    test = dataclasses.replace(recipe.test, sources=tuple(s for s in recipe.test.sources if s in only))
    return dataclasses.replace(recipe, sources=tuple(s for s in recipe.sources if s.label in only), test=test)


def _with_roots(recipe: Recipe, base: Path, roots: Mapping[str, Path], name: str) -> Recipe:
    hint = "or leave the source out with --only"
    return dataclasses.replace(recipe, sources=place_sources(recipe.sources, base, roots, name, hint))


def place_sources(
    sources: Sequence[SourceConfig], base: Path, roots: Mapping[str, Path], name: str, hint: str = ""
) -> tuple[SourceConfig, ...]:
    """The sources with absolute roots.

    Args:
        base: what relative roots are relative to. roots: source (or its new name) -> folder, instead of its own.
        name: of the recipe, for messages. hint: what else to do about a source without a root.

    Raises:
        UsageError: two sources of one name, an unknown source in ``roots``, a source without a root.
    """
    labels = [source.label for source in sources]
    if repeated := {label for label in labels if labels.count(label) > 1}:
        raise UsageError(f"{name}: source {min(repeated)} occurs twice: give one of them another 'rename'")
    unknown = set(roots.keys()) - set(labels) - {source.name for source in sources}
    if unknown:
        raise UsageError(f"--root {min(unknown)}: the recipe has no such source; it has {', '.join(labels)}")
    placed = []
    for source in sources:
        root = roots.get(source.label, roots.get(source.name, source.root))
        if not str(root):
            more = f", {hint}" if hint else ""
            raise UsageError(f"{name}: source {source.label} has no root: add --root {source.label}=DIR{more}")
        full = Path(root) if isinstance(root, Path) else base / Path(root).expanduser()
        placed.append(dataclasses.replace(source, root=str(full.resolve())))
    return tuple(placed)
