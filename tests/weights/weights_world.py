"""Real small wheels in a folder that the real pip is told to use instead of an index."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from facellava.weights import Register

SOURCE = str(Path(__file__).resolve().parents[2] / "src")


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def build_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """A pure-Python wheel as pip accepts it."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: tensorflow==1.0\n"
    wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    everything = {**files, f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": wheel.encode()}
    everything[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in everything).encode()
    path = folder / f"{stem}-py3-none-any.whl"
    path.write_bytes(zipped(everything))
    return path


def entry(name: str, content: bytes, *, permissive: bool = True, **source: str | int) -> str:
    """The register's text for one weight; ``source`` are the fields of its source."""
    fields = "\n".join(f"{key} = {value!r}" for key, value in source.items())
    return f"""
[[weight]]
name = "{name}"
file = "{name}.bin"
sha256 = "{hashlib.sha256(content).hexdigest()}"
size = {len(content)}
purpose = "testing"
training_data = "none"
licence = {{ spdx = "{"MIT" if permissive else "LicenseRef-Research"}", permissive = {str(permissive).lower()} }}
[[weight.source]]
{fields}
"""


@dataclass
class World:
    """A cache, a folder of wheels, and a register that points into them."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def index(self) -> Path:
        return self.root / "index"

    @property
    def register_path(self) -> Path:
        return self.root / "registry.toml"

    def register(self, *entries: str) -> Register:
        self.register_path.write_text("version = 1\n" + "".join(entries), encoding="utf-8")
        return Register.read(self.register_path)

    def stored(self) -> list[str]:
        """Names of all files in the cache that hold or might hold weights."""
        folders = (self.cache / "weights", self.cache / "tmp")
        return sorted(path.name for folder in folders if folder.exists() for path in folder.rglob("*"))

    def start(self, code: str, *, python: str = sys.executable, **env: str) -> subprocess.Popen[str]:
        """Run code in another process, with ``register`` read and ``resolve`` imported."""
        head = (
            "from pathlib import Path\nfrom facellava.weights import Register, resolve\n"
            f"register = Register.read(Path({str(self.register_path)!r}))\n"
        )
        return subprocess.Popen(
            [python, "-c", head + code],
            env={**os.environ, "PYTHONPATH": SOURCE, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
