"""What a finished build leaves behind: the dataset's folder, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facellava.errors import EmptyDataset
from facellava.files import write_atomic
from facellava.instruct import card, croissant, dataset, report, rows, sources, statistics
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.export import export
from facellava.instruct.pipeline import Progress, Result, no_progress
from facellava.instruct.recipe import Recipe
from facellava.instruct.records import Rejection

DATASET = "dataset"
PARTIAL, OLD = ".dataset.partial", ".dataset.old"


def may_share_pixels(recipe: Recipe) -> Any:
    """A test of samples: does the source's licence, or the user's word in the recipe, allow passing pixels on?"""
    allowed = {
        source.label: bool(source.options.get("redistribute", sources.get(source.name).INFO.redistribute))
        for source in recipe.sources
    }
    return lambda sample: allowed[sample.source]


def write(result: Result, recipe: Recipe, out: Path, progress: Progress = no_progress) -> dict[str, Any]:
    """Write ``out/dataset`` anew and return its summary.

    In it: ``data/*.parquet`` (the store of record), ``rejections.jsonl`` (the ledger), ``statistics.json``,
    ``report.html``, ``README.md`` (the card), ``croissant.json``, ``recipe.json``, and the recipe's exports.
    The same recipe over the same media gives the same bytes.

    Raises:
        EmptyDataset: no row; the ledger is written all the same.
    """
    folder, store = out / PARTIAL, ClipStore(out / "clips")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    steps = 4 + len(recipe.export.formats)
    pixels, origin = may_share_pixels(recipe), rows.origins(recipe)
    result = dataclasses.replace(result, rejected=[_without_root(r, origin) for r in result.rejected])
    progress("write", 0, steps)
    _write_ledger(result, recipe, folder)
    if not result.rows:
        _take_place(out)
        raise EmptyDataset(f"no sample is left of {len(result.read):,}: {out / DATASET}/rejections.jsonl says why")
    dataset.write_dataset(
        folder,
        result.rows,
        store,
        shard_rows=recipe.export.shard_rows,
        pixels=pixels,
        origin=origin,
    )
    progress("write", 1, steps)
    found = statistics.summarize(result.read, result.rows, result.rejected)
    _write_json(folder / "statistics.json", found)
    progress("write", 2, steps)
    report.write_report(folder / "report.html", found, result.rows, result.rejected, store, pixels, recipe)
    progress("write", 3, steps)
    write_atomic(folder / "README.md", card.dataset_card(found, recipe, result.notes))
    croissant.write_croissant(folder, found, recipe)
    progress("write", 4, steps)
    for number, form in enumerate(recipe.export.formats, 5):
        export(folder, form, folder / "exports" / form)
        progress("write", number, steps)
    _take_place(out)
    return {**_summary(result, out), "statistics": found}


def _write_ledger(result: Result, recipe: Recipe, folder: Path) -> None:
    lines = [json.dumps(dataclasses.asdict(r), ensure_ascii=False) + "\n" for r in result.rejected]
    write_atomic(folder / "rejections.jsonl", "".join(lines))
    _write_json(folder / "recipe.json", {"hash": recipe.hash, **_without_places(recipe)})


def _without_root(rejection: Rejection, origin: Mapping[str, rows.Origin]) -> Rejection:
    """The message with paths as they are below the source's root; what lies above is this machine's affair."""
    message = rejection.message
    if (root := origin[rejection.source].root) is not None:
        for place in (root, root.resolve()):
            message = message.replace(f"{place}/", "")
    return dataclasses.replace(rejection, message=message)


def _without_places(recipe: Recipe) -> dict[str, Any]:
    """The recipe without the folders of this machine: the dataset is the same wherever the copies lie."""
    record = recipe.to_json()
    for source in record["sources"]:
        del source["root"]
    return record


def _write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _take_place(out: Path) -> None:
    """Give the finished folder its name; whoever is killed in between starts from the journals again."""
    target = out / DATASET
    shutil.rmtree(out / OLD, ignore_errors=True)
    if target.exists():
        target.rename(out / OLD)
    (out / PARTIAL).rename(target)
    shutil.rmtree(out / OLD, ignore_errors=True)


def _summary(result: Result, out: Path) -> dict[str, Any]:
    subsets = Counter(row.subset for row in result.rows)
    return {
        "folder": str(out / DATASET),
        "read": len(result.read),
        "rows": dict(sorted(subsets.items())),
        "rejected": dict(sorted(Counter(f"{r.stage}/{r.code}" for r in result.rejected).items())),
        "notes": result.notes,
    }


def describe(summary: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [statistics.table11_text(summary["statistics"]), "", statistics.table2_text(summary["statistics"]), ""]
    kept = ", ".join(f"{count:,} {subset}" for subset, count in summary["rows"].items())
    lines.append(f"{summary['read']:,} samples read; rows: {kept or 'none'}")
    lines += [f"  rejected {count:>6,}  {reason}" for reason, count in summary["rejected"].items()]
    lines += [f"note: {note}" for note in summary["notes"]]
    lines.append(f"written to {summary['folder']}: README.md, report.html, rejections.jsonl, data/")
    return "\n".join(lines)
