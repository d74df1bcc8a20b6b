"""What a run leaves for each sample: the truth, the answer, and what was read out of it. Plain data, JSON lines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facellava.errors import FileMissing
from facellava.files import reading, write_atomic
from facellava.instruct.journal import json_line
from facellava.types import LabelValue

Status = Literal["answered", "excluded", "failed"]
"""``excluded``: no face clip could be made of the sample; ``failed``: there is a clip, but no answer."""
RECORDS, SCORES, RUN = "records.jsonl", "scores.json", "run.json"


@dataclass(frozen=True, slots=True)
class Record:
    """One sample of a run.

    Attributes:
        id, fold, media, subject: of the sample; ``media`` is ``image`` or ``video``.
        truth, known: its label, and which labels it covers where there are several.
        groups: name -> group that the face belongs to by the dataset's annotation.
        vote: samples with the same one are of one video; "" where every sample counts.
        status: see ``Status``; code and message say why where it is not ``answered``.
        clip: key in the clip store, "" without one.
        text: the answer in words. parsed: what was read out of it.
        outcome: of parsing: ``found``, ``none``, ``tie``; "" without text. cut: the text ends at the limit of tokens.
        reasoning: the explanation, where it was asked for separately. combined: ``text`` is an explanation by itself.
        typed: the typed prediction. probabilities, range, abstained: as in ``Prediction``.
    """

    id: str
    fold: int
    media: str
    subject: str | None
    truth: LabelValue
    known: tuple[str, ...] = ()
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    vote: str = ""
    status: Status = "answered"
    code: str = ""
    message: str = ""
    clip: str = ""
    text: str | None = None
    parsed: LabelValue | float = None
    outcome: str = ""
    cut: bool = False
    reasoning: str = ""
    combined: bool = False
    typed: LabelValue | float = None
    probabilities: Mapping[str, float] = dataclasses.field(default_factory=dict)
    range: tuple[float, float] | None = None
    abstained: str = ""

    @property
    def explanation(self) -> str:
        """The words that a judge reads; a bare label is none."""
        return self.reasoning or (self.text or "" if self.combined else "")


def record_to_json(record: Record) -> dict[str, Any]:
    """The record as JSON values."""
    return {**{f.name: getattr(record, f.name) for f in dataclasses.fields(record)}, "known": list(record.known)}


def record_from_json(row: Mapping[str, Any]) -> Record:
    """The inverse of ``record_to_json``."""
    values = dict(row)
    for name in ("truth", "parsed", "typed", "range"):
        if isinstance(values[name], list):
            values[name] = tuple(values[name])
    return Record(**{**values, "known": tuple(values["known"])})


def write_records(path: Path, records: Iterable[Record]) -> None:
    """One JSON line each, atomically."""
    write_atomic(path, b"".join(json_line(record_to_json(r)) for r in records))


def read_records(run: Path) -> list[Record]:
    """The records of a run's folder.

    Raises:
        FileMissing: the folder holds no finished run. DamagedFile: its records cannot be read.
    """
    path = run / RECORDS
    if not path.is_file():
        raise FileMissing(f"{run} holds no finished run: start 'facellava eval' with the same arguments again")
    with reading(path, "start 'facellava eval' with the same arguments again"), path.open(encoding="utf-8") as lines:
        return [record_from_json(json.loads(line)) for line in lines]
