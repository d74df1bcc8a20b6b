"""``facellava doctor``: what is installed, which weights are here, what is missing and what to do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from facellava.errors import HashMismatch, MissingExtra, NoSpace, WeightsUnavailable

_FEATURES = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
)
"""CPU features that decide which number formats are fast."""


class _Problem(NamedTuple):
    """Something that keeps the program from working; ``exit_code`` as in errors.py."""

    message: str
    todo: str
    exit_code: int


def doctor(
    model: Annotated[
        str,
        typer.Option(metavar="ID", help="Also say where it fits: default, paper-7b, release-7b or a model's folder."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> int:
    """Tell what is installed, what is missing, and what to do about it."""
    from facellava.cli._fits import model_facts, print_facts

    facts = _facts()
    problems = _problems(facts)
    if model:
        facts["model"] = model_facts(model)
    if as_json:
        print(json.dumps({**facts, "problems": [item._asdict() for item in problems]}, indent=2))
    else:
        _print(facts, problems)
        if model:
            print_facts(facts["model"])
    return problems[0].exit_code if problems else 0


def _facts() -> dict[str, Any]:
    from facellava import __version__
    from facellava.weights import is_offline

    packages = _packages()
    return {
        "version": 1,
        "facellava": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "packages": packages["core"],
        "extras": packages["extras"],
        "pip": importlib.util.find_spec("pip") is not None,
        "offline": is_offline(),
        "cache": _cache(),
        "weights_folder": os.environ.get("FACELLAVA_WEIGHTS"),
        "weights": _weights(),
    }


def _cpu() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags: set[str] = set()
    with contextlib.suppress(OSError):  # Linux only; elsewhere the list stays empty
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE):
            flags = set(found.group(1).split())
    return {
        "machine": platform.machine(),
        "cores": usable,
        "features": [name for name in _FEATURES if name in flags],
    }


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> list[tuple[str, str | None]]:
    """(package, extra or None) from the installed metadata; empty when run from a source tree without install."""
    try:
        lines = importlib.metadata.requires("facellava") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        if name and name.group() != "facellava":
            found.append((name.group(), extra and extra.group(1)))
    return found


def _packages() -> dict[str, Any]:
    core: dict[str, str | None] = {}
    extras: dict[str, dict[str, str | None]] = {}
    for name, extra in _requirements():
        (core if extra is None else extras.setdefault(extra, {}))[name] = _installed(name)
    return {"core": core, "extras": {name: items for name, items in extras.items() if name != "dev"}}


def _cache() -> dict[str, Any]:
    from facellava.weights import cache_dir

    folder = cache_dir()
    existing = folder
    while not existing.exists():
        existing = existing.parent
    writable = True
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError:
        writable = False
    return {"path": str(folder), "writable": writable, "free_bytes": shutil.disk_usage(existing).free}


def _weights() -> list[dict[str, Any]]:
    from facellava.weights import status

    return [
        {
            "name": item.weight.name,
            "state": item.state,
            "size": item.weight.size,
            "licence": item.weight.licence.spdx,
            "path": item.path and str(item.path),
        }
        for item in status()
    ]


def _problems(facts: dict[str, Any]) -> list[_Problem]:
    problems = []
    if missing := [name for name, version in facts["packages"].items() if version is None]:
        todo = f"{sys.executable} -m pip install {' '.join(missing)}"
        problems.append(_Problem(f"not installed: {', '.join(missing)}", todo, MissingExtra.exit_code))
    if damaged := [item["path"] for item in facts["weights"] if item["state"] == "damaged"]:
        todo = "delete these files, then run 'facellava weights pull'"
        problems.append(_Problem(f"wrong size: {', '.join(damaged)}", todo, HashMismatch.exit_code))
    absent = [item for item in facts["weights"] if item["state"] == "missing"]
    cache = facts["cache"]
    if absent and not cache["writable"]:
        todo = "set FACELLAVA_CACHE to a folder that you can write"
        problems.append(_Problem(f"cannot write the cache {cache['path']}", todo, NoSpace.exit_code))
    if absent and cache["free_bytes"] < 3 * sum(item["size"] for item in absent):
        todo = "free some space, or set FACELLAVA_CACHE to a folder on a larger disk"
        message = f"little space for weights: {cache['free_bytes'] / 1e6:.0f} MB are free"
        problems.append(_Problem(message, todo, NoSpace.exit_code))
    if absent and (facts["offline"] or not facts["pip"]):
        why = "downloads are off (FACELLAVA_OFFLINE)" if facts["offline"] else "pip is not installed"
        todo = "allow downloads once" if facts["offline"] else f"{sys.executable} -m ensurepip"
        names = ", ".join(item["name"] for item in absent)
        todo += ", or put the files into the folder that FACELLAVA_WEIGHTS names"
        problems.append(_Problem(f"{why} and weights are missing: {names}", todo, WeightsUnavailable.exit_code))
    return problems


def _print(facts: dict[str, Any], problems: list[_Problem]) -> None:
    cpu, cache = facts["cpu"], facts["cache"]
    print(f"facellava {facts['facellava']}, Python {facts['python']}, {facts['platform']}")
    print(f"cpu       {cpu['cores']} cores, {cpu['machine']} {' '.join(cpu['features'])}")
    core = [f"{name} {version or 'MISSING'}" for name, version in facts["packages"].items()]
    print(f"packages  {', '.join(core)}")
    for extra, packages in facts["extras"].items():
        absent = [name for name, version in packages.items() if version is None]
        state = f"missing {', '.join(absent)} (pip install 'facellava[{extra}]')" if absent else "installed"
        print(f"extra     {extra}: {state}")
    print(f"cache     {cache['path']}, {cache['free_bytes'] / 1e9:.1f} GB free")
    for item in facts["weights"]:
        print(f"weight    {item['name']}: {item['state']}")
    if any(item["state"] == "missing" for item in facts["weights"]) and not problems:
        print("missing weights are fetched at first use; 'facellava weights pull' does it now")
    for problem in problems:
        print(f"PROBLEM   {problem.message}\n          to do: {problem.todo}")
    if not problems:
        print("no problems found")
