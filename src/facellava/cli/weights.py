"""``facellava weights list|pull|verify``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facellava.errors import HashMismatch, WeightsUnavailable

if TYPE_CHECKING:
    from facellava.weights import Status

app = typer.Typer(help="The pretrained files: what there is, get it, check it.")

_Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="A JSON list instead of a table.")]


def _row(status: Status) -> dict[str, Any]:
    weight = status.weight
    return {
        "name": weight.name,
        "file": weight.file,
        "size": weight.size,
        "sha256": weight.sha256,
        "licence": weight.licence.spdx,
        "permissive": weight.licence.permissive,
        "licence_note": weight.licence.note,
        "purpose": weight.purpose,
        "training_data": weight.training_data,
        "sources": [source.label for source in weight.sources],
        "state": status.state,
        "path": status.path and str(status.path),
    }


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    wide = max(len(row["name"]) for row in rows)
    for row in rows:
        size = f"{row['size'] / 1e6:8.2f} MB"
        print(f"{row['name']:<{wide}}  {row['state']:<8} {size}  {row['licence']:<10}  {row['purpose']}")


@app.command("list")
def list_(as_json: _Json = False) -> int:
    """Every registered file: size, licence, purpose, and whether it is on this machine."""
    from facellava.weights import status

    _show([_row(item) for item in status()], as_json=as_json)
    return 0


@app.command()
def pull(
    names: _Names = None,
    accept_license: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Accept the licence of this weight; repeatable.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
    as_json: _Json = False,
) -> int:
    """Get files now, so that later use needs no network."""
    from facellava.weights import TerminalProgress, default_register, resolve, status

    register = default_register()
    # without names: everything that needs no acceptance, and what was just accepted
    accepted = accept_license or []
    wanted = names or [item.name for item in register if item.licence.permissive or item.name in accepted]
    for name in wanted:
        with TerminalProgress() as progress:
            resolve(name, offline=offline or None, accept_license=accepted, progress=progress)
    _show([_row(item) for item in status() if item.weight.name in wanted], as_json=as_json)
    return 0


@app.command()
def verify(names: _Names = None, as_json: _Json = False) -> int:
    """Hash files anew. Fails when one is damaged, or when one that was named is missing."""
    from facellava.weights import verify as verify_files

    found = verify_files(names or ())
    _show([_row(item) for item in found], as_json=as_json)
    if damaged := [item for item in found if item.state == "damaged"]:
        listed = ", ".join(str(item.path) for item in damaged)
        raise HashMismatch(f"not the registered content: {listed}. The next use replaces files of the cache")
    if names and (missing := [item.weight.name for item in found if item.state == "missing"]):
        raise WeightsUnavailable(f"not on this machine: {', '.join(missing)}. Run 'facellava weights pull'")
    return 0
