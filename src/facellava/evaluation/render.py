"""Published tables with measured rows beside them, as Markdown, HTML and LaTeX.

All three are written from one ``Grid``, which decides what stands in a cell, which value is the best, and which notes
are needed; the writers only escape and set marks.
"""

from __future__ import annotations

import html as markup
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from facellava.errors import UsageError
from facellava.evaluation.published import Column, Row, Table

__all__ = ["Grid", "OurRow", "Value", "grid", "html", "latex", "markdown"]

MISSING = "–"
MEASURED = "measured by us"
SIGNS = "*†‡§¶"


@dataclass(frozen=True)
class Value:
    """A measured number.

    Attributes:
        mean: not a number where the metric is undefined, which reads as a missing cell.
        low, high: ends of its interval, None without one. n: number of samples. note: what else needs saying.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""


@dataclass(frozen=True)
class OurRow:
    """What a model of ours reached: ``values`` by the key of the column, ``setting`` as in the table."""

    method: str
    setting: str
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Cell:
    """Text of a cell, and whether it is the best of its column in its setting."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A row of a grid: the method with its signs, the cells, and whether it is ours."""

    method: str
    cells: tuple[Cell, ...]
    ours: bool


@dataclass(frozen=True)
class Grid:
    """A table as every format shows it.

    Attributes:
        number, caption: of the table. spans: shared headings with the number of their columns, in order; "" for none.
        headings: of the columns, with an arrow towards better values. titles: the same with the shared ones.
        sections: the rows by setting, under the setting's name.
        footnotes: what signs mean, and notes.
    """

    number: int
    caption: str
    spans: tuple[tuple[str, int], ...]
    headings: tuple[str, ...]
    titles: tuple[str, ...]
    sections: tuple[tuple[str, tuple[Line, ...]], ...]
    footnotes: tuple[str, ...]


# --- the grid ---


def grid(table: Table, ours: Sequence[OurRow] = ()) -> Grid:
    """Published rows by setting, each setting's measured rows after them.

    Raises:
        UsageError: a measured row has a value for a column that the table lacks.
    """
    keys = [column.key for column in table.columns]
    for row in ours:
        if unknown := row.values.keys() - set(keys):
            raise UsageError(f"table {table.number} has no column '{min(unknown)}'; columns: {', '.join(keys)}")
    signs = dict(zip(table.marks, SIGNS, strict=False))
    sections = []
    for setting in dict.fromkeys([row.setting for row in (*table.rows, *ours)]):
        published = [row for row in table.rows if row.setting == setting]
        measured = [row for row in ours if row.setting == setting]
        sections.append((_line(setting[:1].upper() + setting[1:]), _section(table.columns, published, measured, signs)))
    shared = [(_line(group), len(list(columns))) for group, columns in groupby(table.columns, lambda c: c.group)]
    return Grid(
        number=table.number,
        caption=_line(f"{of_paper(table)}{table.title}. {table.caption}"),
        spans=tuple(shared) if any(group for group, _ in shared) else (),
        headings=tuple(_line(column.heading + _arrow(column)) for column in table.columns),
        titles=tuple(_line(column.title + _arrow(column)) for column in table.columns),
        sections=tuple(sections),
        footnotes=tuple(map(_line, _footnotes(table, ours, signs))),
    )


def of_paper(table: Table) -> str:
    """How a caption begins; tables of our own have the number 0."""
    return f"Table {table.number} of the paper: " if table.number else ""


def _section(
    columns: Sequence[Column], published: Sequence[Row], measured: Sequence[OurRow], signs: Mapping[str, str]
) -> tuple[Line, ...]:
    rows = [{key: Value(number) for key, number in row.values.items()} for row in published]
    rows += [{key: value for key, value in row.values.items() if not math.isnan(value.mean)} for row in measured]
    names = [row.method + "".join(signs[mark] for mark in row.marks) for row in published]
    names += [f"{row.method} ({MEASURED})" for row in measured]
    best = {c.key: _best(c, [row[c.key].mean for row in rows if c.key in row]) for c in columns}
    return tuple(
        Line(_line(name), tuple(_cell(c, row.get(c.key), best[c.key]) for c in columns), n >= len(published))
        for n, (name, row) in enumerate(zip(names, rows, strict=True))
    )


def _best(column: Column, values: Sequence[float]) -> float | None:
    """The best value as shown; None where nothing can be better than something else."""
    if column.higher_is_better is None or len(values) < 2:
        return None
    return round(max(values) if column.higher_is_better else min(values), column.decimals)


def _cell(column: Column, value: Value | None, best: float | None) -> Cell:
    if value is None:
        return Cell(MISSING)
    text = _number(value.mean, column)
    if value.low is not None and value.high is not None:
        text += f" ({_number(value.low, column)}–{_number(value.high, column)})"
    return Cell(text, round(value.mean, column.decimals) == best)


def _number(value: float, column: Column) -> str:
    return f"{value:,.{column.decimals}f}"


def _arrow(column: Column) -> str:
    return {None: "", True: " ↑", False: " ↓"}[column.higher_is_better]


def _footnotes(table: Table, ours: Sequence[OurRow], signs: Mapping[str, str]) -> Iterable[str]:
    for mark, sign in signs.items():
        yield f"{sign} {table.marks[mark]}"
    for row in table.rows:
        if row.note:
            yield f"{row.method}, {row.setting}: {row.note}"
    if any(value.low is not None for row in ours for value in row.values.values()):
        yield "In parentheses behind a value: the ends of its interval."
    titles = {column.key: column.title for column in table.columns}
    for row in ours:
        sizes = {value.n for value in row.values.values()} - {None}
        for n in sorted(sizes, key=lambda size: size or 0):
            which = ", ".join(titles[key] for key, value in row.values.items() if value.n == n)
            yield f"{row.method} ({MEASURED}), {row.setting}: n = {n} ({which})"
        for key, value in row.values.items():
            if value.note:
                yield f"{row.method} ({MEASURED}), {row.setting}, {titles[key]}: {value.note}"


def _line(text: str) -> str:
    """On one line, as a line break would end a row of Markdown."""
    return " ".join(text.split())


# --- Markdown ---


def markdown(table: Table, ours: Sequence[OurRow] = ()) -> str:
    """A table of GitHub's Markdown; settings are rows in italics, the best values bold."""
    made = grid(table, ours)
    lines = [f"**{_md(made.caption)}**", "", _md_row(["Method", *map(_md, made.titles)])]
    lines.append(_md_row([":---", *["---:"] * len(made.titles)]))
    for setting, rows in made.sections:
        lines.append(_md_row([f"*{_md(setting)}*", *[""] * len(made.titles)]))
        for row in rows:
            cells = [f"**{_md(cell.text)}**" if cell.best else _md(cell.text) for cell in row.cells]
            lines.append(_md_row([_md(row.method), *cells]))
    if made.footnotes:
        lines += ["", *[f"- {_md(note)}" for note in made.footnotes]]
    return "\n".join(lines) + "\n"


def _md(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|&~$])", r"\\\1", text)


def _md_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


# --- HTML ---


def html(table: Table, ours: Sequence[OurRow] = ()) -> str:
    """A ``<table>`` without styles; measured rows have the class ``ours``, the best values are ``<strong>``."""
    made = grid(table, ours)
    width = len(made.headings) + 1
    lines = [f'<table id="table{made.number}">', f"<caption>{_esc(made.caption)}</caption>", "<thead>"]
    if made.spans:
        groups = [
            f'<th scope="colgroup" colspan="{n}">{_esc(text)}</th>' if text else f'<td colspan="{n}"></td>'
            for text, n in made.spans
        ]
        lines.append(f"<tr><td></td>{''.join(groups)}</tr>")
    headings = "".join(f'<th scope="col">{_esc(text)}</th>' for text in ("Method", *made.headings))
    lines += [f"<tr>{headings}</tr>", "</thead>"]
    for setting, rows in made.sections:
        lines += ["<tbody>", f'<tr><th scope="rowgroup" colspan="{width}">{_esc(setting)}</th></tr>']
        lines += [*map(_html_row, rows), "</tbody>"]
    if made.footnotes:
        notes = "".join(f"<li>{_esc(note)}</li>" for note in made.footnotes)
        lines.append(f'<tfoot><tr><td colspan="{width}"><ul>{notes}</ul></td></tr></tfoot>')
    return "\n".join([*lines, "</table>"]) + "\n"


def _html_row(row: Line) -> str:
    texts = [(f"<strong>{_esc(cell.text)}</strong>" if cell.best else _esc(cell.text)) for cell in row.cells]
    start = '<tr class="ours">' if row.ours else "<tr>"
    cells = "".join(f"<td>{text}</td>" for text in texts)
    return f'{start}<th scope="row">{_esc(row.method)}</th>{cells}</tr>'


def _esc(text: str) -> str:
    return markup.escape(text)


# --- LaTeX ---

# * and [ would be read as arguments of the \\ that ends the row before
TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "†": r"\textdagger{}",
        "‡": r"\textdaggerdbl{}",
        "§": r"\S{}",
        "¶": r"\P{}",
        "*": "{*}",
        "[": "{[}",
        "]": "{]}",
        **{sign: "\\" + sign for sign in "{}$&#_%"},
    }
)


def latex(table: Table, ours: Sequence[OurRow] = ()) -> str:
    """A ``table`` environment; needs the package booktabs."""
    made = grid(table, ours)
    width = len(made.headings) + 1
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_tex(made.caption)}}}"]
    lines += [rf"\label{{tab:published-{made.number}}}", rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}", r"\toprule"]
    lines += _tex_spans(made.spans)
    lines.append(_tex_row(["Method", *map(_tex, made.headings)]))
    for setting, rows in made.sections:
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\textit{{{_tex(setting)}}}}} \\"]
        for row in rows:
            cells = [rf"\textbf{{{_tex(cell.text)}}}" if cell.best else _tex(cell.text) for cell in row.cells]
            lines.append(_tex_row([_tex(row.method), *cells]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    if made.footnotes:
        lines += ["", r"\smallskip", r"{\footnotesize\raggedright"]
        lines += [_tex(note) + r"\par" for note in made.footnotes] + ["}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _tex(text: str) -> str:
    return text.translate(TEX)


def _tex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _tex_spans(spans: Sequence[tuple[str, int]]) -> list[str]:
    """The row of shared headings with a rule under each."""
    if not spans:
        return []
    cells, rules, at = [""], [], 2
    for text, n in spans:
        cells.append(rf"\multicolumn{{{n}}}{{c}}{{{_tex(text)}}}")
        if text:
            rules.append(rf"\cmidrule(lr){{{at}-{at + n - 1}}}")
        at += n
    return [_tex_row(cells), " ".join(rules)]
