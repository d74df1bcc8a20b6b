"""What mkdocs does besides rendering docs/: pages at the root come in, links go to where files are in the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
AT_THE_ROOT = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
HOME = "index.md"


def on_files(files: Files, config: Any) -> Files:
    """Pages that a code host wants at the root are pages of the site too."""
    for name in AT_THE_ROOT:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as the site has them: one folder for all pages, README as the home, other files as text."""
    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", lambda m: _link(m[1], m[2], page.file.src_uri), markdown)


def _link(text: str, target: str, page: str) -> str:
    if re.match(r"[a-z]+:|#", target):
        return f"[{text}]({target})"
    path, _, anchor = target.partition("#")
    start = ROOT if page in AT_THE_ROOT else ROOT / "docs"
    found = (start / path).resolve().relative_to(ROOT)
    anchor = f"#{anchor}" if anchor else ""
    if found.parts[0] == "docs":
        return f"[{text}]({found.relative_to('docs').as_posix()}{anchor})"
    if found.name in AT_THE_ROOT:
        return f"[{text}]({found.name}{anchor})"
    if found.name == "README.md":
        return f"[{text}]({HOME})"
    return text
