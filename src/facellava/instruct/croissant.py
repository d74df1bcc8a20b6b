"""Croissant metadata (JSON-LD, MLCommons) with the fields for responsible AI."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facellava.errors import MissingExtra
from facellava.files import write_atomic
from facellava.instruct.card import maker, source_facts, uses
from facellava.instruct.dataset import shard_files
from facellava.instruct.recipe import Recipe

FILE_NAME = "croissant.json"
_SHARDS, _ROWS = "shards", "instructions"
_TEXTS = {
    "id": "Unique and stable: source, id in the source, piece and task.",
    "source": "Name of the source in this build.",
    "subject": "Identity within the source; never on both sides of the split.",
    "task": "expression, action_units, attributes, age or deepfake.",
    "kind": "image or video.",
    "label": "The label of a task with one label.",
    "question": "The instruction.",
    "description": "The answer.",
    "media": "Path of the medium below the source's root.",
    "sha256": "Digest of the source's medium.",
    "licence": "Of the medium.",
}
METHOD = (
    "A. Chaubey, X. Guan, M. Soleymani: Face-LLaVA: Facial Expression and Attribute Understanding through Instruction "
    "Tuning. arXiv:2504.07198"
)


def write_croissant(folder: Path, found: Mapping[str, Any], recipe: Recipe) -> Path:
    """Write ``folder/croissant.json`` for the Parquet files in `folder`; its path.

    Raises:
        FileMissing: no dataset there. MissingExtra: no ``mlcroissant``.
    """
    try:
        import mlcroissant
    except ImportError as error:
        raise MissingExtra("data", "Croissant metadata") from error
    # made without network: the library validates while it builds
    metadata = mlcroissant.Metadata(
        name=recipe.name,
        description=recipe.description or "Instruction data for describing faces.",
        version=recipe.version,
        # no public address of its own: a build lies where its user puts it
        url=f"urn:facellava:{recipe.hash}",
        license=list[Any](sorted({source.licence for source in source_facts(recipe)})),
        cite_as=METHOD,
        keywords=["face", "instruction tuning", *found["classes"]],
        in_language=["en"],
        conforms_to=["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        distribution=list(_distribution(mlcroissant, folder)),
        record_sets=[_record_set(mlcroissant)],
        **_responsible(found, recipe),
    )
    target = folder / FILE_NAME
    text = json.dumps(metadata.to_json(), indent=1, ensure_ascii=False, sort_keys=True)
    write_atomic(target, text + "\n")
    return target


def _distribution(mlc: Any, folder: Path) -> Iterator[Any]:
    for path in shard_files(folder):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield mlc.FileObject(
            id=path.name,
            name=path.name,
            content_url=f"data/{path.name}",
            content_size=f"{path.stat().st_size} B",
            encoding_formats=["application/x-parquet"],
            sha256=digest,
        )
    yield mlc.FileSet(
        id=_SHARDS,
        name=_SHARDS,
        description="All rows.",
        includes=["data/*.parquet"],
        encoding_formats=["application/x-parquet"],
    )


def _record_set(mlc: Any) -> Any:
    def field(name: str, about: str, kind: Any, **source: Any) -> Any:
        extract = source.pop("extract", None) or mlc.Extract(column=name)
        return mlc.Field(
            id=f"{_ROWS}/{name}",
            name=name,
            description=about,
            data_types=[kind],
            source=mlc.Source(file_set=_SHARDS, extract=extract, **source),
        )

    kinds, pixels = mlc.DataType, [mlc.Transform(json_path="bytes")]
    subset = [mlc.Transform(regex=r".*(train|test)-[0-9]+-of-[0-9]+\.parquet$")]
    return mlc.RecordSet(
        id=_ROWS,
        name=_ROWS,
        key=f"{_ROWS}/id",
        fields=[
            *(field(name, about, kinds.TEXT) for name, about in _TEXTS.items()),
            field("years", "The label of the age task.", kinds.INTEGER),
            field("duration", "Seconds, 0 for a picture.", kinds.FLOAT),
            field("image", "The crop, where the licence allows.", kinds.IMAGE_OBJECT, transforms=pixels),
            field("video", "The crops as MP4, where the licence allows.", kinds.VIDEO_OBJECT, transforms=pixels),
            field(
                "subset",
                "train or test.",
                kinds.TEXT,
                extract=mlc.Extract(file_property=mlc.FileProperty.fullpath),
                transforms=subset,
            ),
        ],
    )


def _responsible(found: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The fields of the RAI vocabulary, by the keywords of ``mlcroissant.Metadata``."""
    text, made = uses(), found["provenance"]
    rejected = sum(row["n"] for row in found["rejections"])
    small = [
        f"{task}: {name} makes up {count / record['all']['n']:.1%} of the labelled rows"
        for task, record in found["classes"].items()
        for name, count in record["all"]["counts"].items()
        if record["kind"] == "single" and 0 < count < 0.05 * record["all"]["n"]
    ]
    rules = [f"Policy '{recipe.preprocess.policy}' for clips; crops of 256 x 256 pixels, 68 landmarks in every frame."]
    if recipe.filter.enabled and made["raters"]:
        rules.append(f"Samples with an overall rating of {recipe.filter.threshold} or less were removed.")
    return {
        "data_collection": text["collection"],
        "data_collection_type": ["Secondary Data Analysis", "Software Collection"],
        "data_collection_missing_data": f"{rejected:,} samples were dropped, each with a reason in rejections.jsonl.",
        "data_preprocessing_protocol": rules,
        "data_annotation_protocol": [
            "Labels come from the sources. A program that was told the label wrote the description (section 3.1).",
            *(f"Described: {maker(by)}" for by in made["annotators"]),
            *(f"Rated: {maker(by)}" for by in made["raters"]),
        ],
        "machine_annotation_tools": sorted(
            {f"{b['by']} {b['model']}".strip() for b in made["annotators"] + made["raters"]}
        ),
        "annotations_per_item": "One description and, where rated, one rating of four criteria.",
        "data_biases": [text["limits"][3], *small],
        "data_limitations": text["limits"],
        "data_use_cases": [
            *(f"Intended: {line}" for line in text["intended"]),
            *(f"Out of scope: {line}" for line in text["out_of_scope"]),
            *(f"Prohibited: {line}" for line in text["prohibited"]),
        ],
        "data_social_impact": text["impact"],
        "personal_sensitive_information": text["personal"],
        "data_release_maintenance_plan": text["maintenance"],
    }
