"""Fills the parts of pages that are known to the code: ``python docs/make_reference.py``.

A part stands between ``<!-- NAME: written by docs/make_reference.py -->`` and ``<!-- end -->``. A test holds pages
equal to what this writes. Signatures and docstrings become Markdown that a code host shows as well as the site.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import facellava
from facellava import results
from facellava.face import Limits
from facellava.files import write_atomic
from facellava.instruct.sources import all_sources

DOCS = Path(__file__).resolve().parent
_PART = re.compile(r"(<!-- (\w+): written by docs/make_reference\.py -->\n).*?(<!-- end -->)", re.DOTALL)
SECTIONS = {"Args": "Arguments", "Attributes": "Fields", "Raises": "Raises"}


def sources() -> str:
    """The paper's datasets: reader, dataset, task, licence, how to obtain it."""
    rows = ["| reader | dataset | task | licence | obtain |", "|---|---|---|---|---|"]
    for source in all_sources().values():
        info = source.INFO
        if info.in_paper:
            cells = (f"`{info.name}`", info.title, info.task.replace("_", " "), info.licence, linked(info.obtain))
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def linked(text: str) -> str:
    """Addresses as links: a bare one is none on every renderer."""
    return re.sub(r"https?://[^\s,]+[^\s,.]", lambda m: f"<{m[0]}>", text)


def expected() -> str:
    """The paper's rows for its own model in Tables 3 to 5."""
    rows = ["| table | measure | zero-shot | fine-tuned |", "|---|---|---|---|"]
    for number in (3, 4, 5):
        source = resources.files("facellava.evaluation") / "tables" / f"table{number}.toml"
        table = tomllib.loads(source.read_text(encoding="utf-8"))
        ours = {row["setting"]: row["values"] for row in table["rows"] if row["method"] == "Face-LLaVA"}
        for column in table["columns"]:
            key, name = column["key"], f"{column.get('group', '')} {column['heading']}".strip()
            rows.append(f"| {number} | {name} | {ours['zero-shot'][key]} | {ours['fine-tuned'][key]} |")
    return "\n".join(rows)


def python() -> str:
    """The public names, with signatures and docstrings."""
    parts = [entry("facellava.load", facellava.load)]
    parts.append(entry("facellava.Analyzer", facellava.Analyzer, signature=False))
    for name in ("analyze", "ask", "clips", "describe"):
        parts.append(entry(f"Analyzer.{name}", getattr(facellava.Analyzer, name), level=4))
    own = (name for name in facellava.__all__ if not name.startswith("FaceLlava") and name != "load")
    functions = [name for name in own if inspect.isfunction(getattr(facellava, name))]
    parts += [entry(f"facellava.{name}", getattr(facellava, name)) for name in functions]
    parts.append(entry("facellava.MediaResult", results.MediaResult, signature=False))
    for name in ("to_dict", "to_rows", "to_frame"):
        parts.append(entry(f"MediaResult.{name}", getattr(results.MediaResult, name), level=4))
    parts.append(entry("facellava.FaceResult", results.FaceResult, signature=False))
    kinds = ("ExpressionResult", "ActionUnitsResult", "AttributesResult", "AgeResult", "DeepfakeResult", "TaskResult")
    parts += [entry(f"facellava.results.{name}", getattr(results, name), signature=False) for name in kinds]
    parts.append(entry("facellava.face.Limits", Limits, signature=False))
    parts.append(entry("facellava.FacellavaError", facellava.FacellavaError, signature=False))
    return "\n\n".join(parts)


def entry(name: str, thing: Any, *, level: int = 3, signature: bool = True) -> str:
    """A heading, the signature or the fields, and the docstring."""
    lines = [f"{'#' * level} {name}", ""]
    if signature:
        lines += ["```text", call(name.rpartition(".")[2], thing), "```", ""]
    elif dataclasses.is_dataclass(thing):
        lines += ["```text", *(f"{f.name}: {f.type}" for f in dataclasses.fields(thing)), "```", ""]
    return "\n".join([*lines, *docstring(thing)]).rstrip()


def call(name: str, function: Callable[..., Any]) -> str:
    """``name(...) -> ...`` as in the source; an argument a line where it is long."""
    signature = inspect.signature(function)
    given = [str(p) for p in signature.parameters.values() if p.name != "self"]
    keyword = [p.name for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    if keyword:
        given.insert([p.name for p in signature.parameters.values() if p.name != "self"].index(keyword[0]), "*")
    returns = f" -> {signature.return_annotation}"
    short = re.sub(r"'([^']*)'(?=[,)]|$| =)", r"\1", f"{name}({', '.join(given)}){returns}")
    if len(short) <= 110:
        return short
    body = ",\n    ".join(re.sub(r"^(\*{0,2}\w+): '([^']*)'", r"\1: \2", argument) for argument in given)
    return f"{name}(\n    {body},\n){returns.replace(chr(39), '')}"


def docstring(thing: Any) -> Iterable[str]:
    """A docstring in this project's style as Markdown: its sections become bold words and lists."""
    for line in (inspect.getdoc(thing) or "").splitlines():
        line = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", line).replace("``", "`")
        section = re.fullmatch(r"(\w+):", line)
        item = re.match(r"    (\S[^:]*): (.*)", line)
        if section and section[1] in SECTIONS:
            yield from (f"**{SECTIONS[section[1]]}**", "")
        elif item:
            yield f"- `{item[1]}`: {item[2]}"
        elif line.startswith("        "):
            yield f"  {line.strip()}"
        elif line.startswith("    "):
            yield f"- {line.strip()}"
        else:
            yield line


PARTS: dict[str, Callable[[], str]] = {"sources": sources, "expected": expected, "python": python}


def filled(text: str) -> str:
    """A page with its parts written anew."""
    return _PART.sub(lambda m: f"{m[1]}\n{PARTS[m[2]]()}\n\n{m[3]}", text)


def main() -> None:
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            write_atomic(path, new)
            print(f"written: {path.name}")


if __name__ == "__main__":
    main()
