"""The order of imports, the public names, and what importing the package must not load."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import facellava

PACKAGE = Path(facellava.__file__).parent

LAYERS: list[set[str]] = [
    {"errors", "types", "files", "settings", "arrow", "interrupt"},
    {"tasks", "face", "model", "weights", "llm"},
    {"runtime", "showing"},
    {"results"},
    {"analyzer", "answers", "consistency", "overlay", "notice", "instruct"},
    {"training", "evaluation", "vllm_plugin", "timeline"},
    {"server", "gradio_app"},
    {"cli"},
]
"""Later layers may import earlier ones, never the other way round. ``ARCHITECTURE.md`` draws the same order."""

SURFACE = {"__init__", "__main__", "_autoclasses"}
"""The package's own front: it names things of every layer, and imports them on first use only."""

LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}
ONE_FLOW = {"errors", "types", "files", "settings", "analyzer", "answers", "consistency"}
"""Single modules that make up one layer together and may use each other; folders of one layer never do."""

HEAVY = ("torch", "transformers", "huggingface_hub", "datasets", "onnxruntime", "cv2", "av")


def _unit(path: Path) -> str:
    """The folder or module directly under the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _type_checking_only(tree: ast.Module) -> set[ast.AST]:
    guarded: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            guarded |= {inner for statement in node.body for inner in ast.walk(statement)}
    return guarded


def _imported_units(path: Path) -> Iterator[tuple[int, str]]:
    """(line, unit) of everything that a file imports from this package, wherever in the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = _type_checking_only(tree)
    inside = ("facellava", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if node in guarded:
            continue
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(inside[: len(inside) - node.level + 1]) if node.level else []
            stem = base + (node.module.split(".") if node.module else [])
            # `from facellava import x` names the unit after the import
            modules = [[*stem, alias.name] for alias in node.names]
        else:
            continue
        for parts in modules:
            if parts[0] == "facellava" and len(parts) > 1:
                yield node.lineno, parts[1]


FILES = sorted(path for path in PACKAGE.rglob("*.py") if _unit(path) not in SURFACE)


def test_every_folder_and_module_has_a_place_in_the_order() -> None:
    units = {_unit(path) for path in FILES}
    assert units <= LEVEL.keys(), f"not in LAYERS: {sorted(units - LEVEL.keys())}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    own = _unit(path)
    wrong = []
    for line, unit in _imported_units(path):
        if unit == own or unit not in LEVEL:  # the surface's own names, such as __version__
            continue
        together = own in ONE_FLOW and unit in ONE_FLOW and LEVEL[own] == LEVEL[unit]
        if LEVEL[unit] >= LEVEL[own] and not together:
            wrong.append(f"{path.name}:{line} imports facellava.{unit}")
    assert not wrong, "; ".join(wrong)


def test_checker_sees_every_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above is worth what this shows: absolute, relative, nested and renamed imports are all seen."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    source = folder / "x.py"
    source.write_text(
        "import facellava.cli\n"
        "from facellava import face as f\n"
        "from ..runtime.build import y\n"
        "from .. import model\n"
        "def late():\n    from facellava.analyzer import load\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from facellava.server import z\n"
    )
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    assert {unit for _, unit in _imported_units(source)} == {"cli", "face", "runtime", "model", "analyzer"}


def test_exported_names() -> None:
    assert set(facellava.__all__) == {
        "Analyzer",
        "FaceLlavaConfig",
        "FaceLlavaForConditionalGeneration",
        "FaceLlavaProcessor",
        "FaceResult",
        "FacellavaError",
        "MediaResult",
        "__version__",
        "analyze",
        "ask",
        "demo",
        "load",
        "watch",
    }
    assert set(facellava.__all__) <= set(dir(facellava))


@pytest.mark.parametrize("name", [name for name in facellava.__all__ if not name.startswith("FaceLlava")])
def test_exported_names_resolve(name: str) -> None:
    assert getattr(facellava, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        facellava.nothing  # noqa: B018


def test_version_is_the_packages() -> None:
    """It stands in ``facellava/__init__.py`` alone; the build reads it there."""
    assert importlib.metadata.version("facellava") == facellava.__version__


def _fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_nothing_heavy() -> None:
    found = _fresh(f"import sys, facellava; print([name for name in {HEAVY} if name in sys.modules])")
    assert found == "[]"


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    heavy = (*HEAVY, "numpy", "rich", "PIL")
    found = _fresh(f"import sys, facellava.cli; print([name for name in {heavy} if name in sys.modules])")
    assert found == "[]"


def test_the_default_path_needs_neither_torch_nor_transformers() -> None:
    """Analyzer, runtime and front end import in an interpreter in which torch and transformers cannot be found."""
    block = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'huggingface_hub'): sys.modules[name] = None\n"
        "import facellava.analyzer, facellava.face, facellava.runtime.onnx_engine, facellava.overlay, facellava.cli\n"
        "print('fine')"
    )
    assert _fresh(block) == "fine"


REGISTERED = """
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
import facellava
config = facellava.FaceLlavaConfig
assert config.model_type in CONFIG_MAPPING, "not registered"
from transformers import AutoModelForImageTextToText, AutoProcessor
assert config in AutoModelForImageTextToText._model_mapping
assert config in __import__("transformers").models.auto.processing_auto.PROCESSOR_MAPPING
print("known")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "import facellava, transformers",
        "import transformers, facellava",
        "import facellava\nfrom facellava.model import FaceLlavaForConditionalGeneration",
        "import facellava\nfacellava.FaceLlavaConfig",
        "import facellava\nimport importlib.util\nassert importlib.util.find_spec('transformers')",
    ],
    ids=["before", "after", "our-model-first", "our-config-first", "looked-for-first"],
)
def test_auto_classes_know_the_model_in_any_order_of_imports(first: str) -> None:
    pytest.importorskip("transformers", reason="needs the torch extra")
    # REGISTERED itself touches facellava.FaceLlavaConfig only after the Auto classes were loaded
    assert _fresh(f"{first}\n{REGISTERED}") == "known"
