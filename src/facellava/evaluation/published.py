"""The paper's tables of results as data, one TOML file each in the folder ``tables``.

Tables 3 to 5 and 7 to 12 of Face-LLaVA (arXiv 2504.07198). Table 6 is among the ablations of ``facellava.training``.
The text of the paper was extracted from a PDF; a row's ``note`` says which of its cells could not be read there and how
they were found again. A cell that the paper leaves out, or that is lost, is absent from ``Row.values``.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from facellava import settings
from facellava.errors import FileMissing, UsageError

__all__ = ["Column", "Row", "Table", "all_tables", "load"]


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        key: unique in the table; the key of ``Row.values``.
        heading: for people, without its group.
        metric: ``uar``, ``war``, ``accuracy``, ``mean_f1``, ``f1.AU1``, ``recall.happiness``, ``mae``,
            ``mean_accuracy``, ``reason_video.age``, ``samples.initial`` and their like.
        group: heading that neighbouring columns share; "" for none.
        benchmark: what was tested on: ``dfew``, ``crema_d``, ``raf_db``, ``disfa``, ``bp4d``, ``morph2``, ``utkface``,
            ``celeba``, ``faceforensics`` or ``faceinstruct_test``; "" where nothing was.
        higher_is_better: None where no value is better than another.
        decimals: digits after the point.
    """

    key: str
    heading: str
    metric: str
    group: str = ""
    benchmark: str = ""
    higher_is_better: bool | None = None
    decimals: int = 3

    @property
    def title(self) -> str:
        """The heading with its group, which tells the columns of a table apart."""
        return f"{self.group}: {self.heading}" if self.group else self.heading


@dataclass(frozen=True)
class Row:
    """A method's numbers.

    Attributes:
        method: its name, written the same way in all tables.
        setting: ``closed-source``, ``zero-shot``, ``fine-tuned`` and, in Tables 10 to 12, others.
        values: key of a column -> number.
        marks: keys of ``Table.marks``.
        note: what about the row needs saying; "" for nothing.
        source: the reader in ``facellava.instruct.sources`` of a data set's row (Table 11).
    """

    method: str
    setting: str
    values: Mapping[str, float]
    marks: tuple[str, ...] = ()
    note: str = ""
    source: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        number: the paper's. title, caption: ours. columns, rows: in the paper's order.
        marks: what a mark of a row means.
    """

    number: int
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    marks: Mapping[str, str] = dataclasses.field(default_factory=dict)


@cache
def load(number: int) -> Table:
    """The paper's table of that number.

    Raises:
        FileMissing: it is not among those that ship.
        UsageError: its file has an unknown key, lacks one, or contradicts itself.
    """
    if number not in (shipped := _numbers()):
        raise FileMissing(f"there is no published table {number}; shipped: {', '.join(map(str, shipped))}")
    text = (_folder() / f"table{number}.toml").read_text(encoding="utf-8")
    table = parse(text, f"table {number}")
    if table.number != number:
        raise UsageError(f"table {number}: the file says number {table.number}")
    return table


def all_tables() -> tuple[Table, ...]:
    """Every table that ships, by number."""
    return tuple(load(number) for number in _numbers())


def parse(text: str, where: str) -> Table:
    """A table from TOML.

    Args:
        where: names the table in messages.

    Raises:
        UsageError: as for ``load``.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is no valid TOML: {error}") from error
    table = settings.build(Table, raw, where)
    keys = [column.key for column in table.columns]
    if len(set(keys)) < len(keys):
        raise UsageError(f"{where}: two columns have one key")
    if wrong := [key for key, text in table.marks.items() if not isinstance(text, str)]:
        raise UsageError(f"{where}: marks: {wrong[0]} must be text")
    seen: set[tuple[object, ...]] = set()
    for row in table.rows:
        _check(row, keys, table.marks, f"{where}: {row.method}")
        if (name := (row.method, row.setting, row.marks)) in seen:
            raise UsageError(f"{where}: {row.method}, {row.setting} is there twice")
        seen.add(name)
    # TOML tells 1 from 1.0
    rows = (dataclasses.replace(r, values={k: float(v) for k, v in r.values.items()}) for r in table.rows)
    return dataclasses.replace(table, rows=tuple(rows))


def _check(row: Row, keys: list[str], marks: Mapping[str, str], where: str) -> None:
    if unknown := row.values.keys() - set(keys):
        raise UsageError(f"{where}: there is no column '{min(unknown)}'; columns: {', '.join(keys)}")
    if wrong := [key for key, value in row.values.items() if type(value) not in (int, float)]:
        raise UsageError(f"{where}: {wrong[0]} is {row.values[wrong[0]]!r}, but must be a number")
    if unknown := set(row.marks) - marks.keys():
        raise UsageError(f"{where}: there is no mark '{min(unknown)}'; marks: {', '.join(marks)}")


def _folder() -> Traversable:
    return resources.files("facellava.evaluation") / "tables"


def _numbers() -> list[int]:
    names = [f.name for f in _folder().iterdir() if f.name.endswith(".toml")]
    return sorted(int(name.removeprefix("table").removesuffix(".toml")) for name in names)
