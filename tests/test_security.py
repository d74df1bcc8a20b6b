"""What the code must never do, read off its syntax; and what names in other people's files must never reach.

docs/security.md says why. Other tests of it: addresses in tests/server/test_server_fetch.py, uploads in
tests/server/test_server_door.py, code in pickles in tests/model/test_layouts_damage.py, weights in tests/weights.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import facellava
from facellava.errors import FacellavaError, FileMissing, SourceLayout, UsageError
from facellava.files import is_inside

PACKAGE = Path(facellava.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

RUNS_CODE = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}
RUNS_CODE |= {"marshal.loads", "marshal.load", "pickle.load", "pickle.Unpickler", "shelve.open", "joblib.load"}
LEAVES_TRACES = {"tempfile.mktemp", "telnetlib.Telnet", "ftplib.FTP"}
FETCHES = {"urllib.request", "requests", "urllib3", "httpx", "aiohttp"}
"""Libraries that open addresses by themselves: the one module that opens given addresses checks them first."""
NEEDS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
OWN_PICKLES = {"instruct/executor.py"}
"""Rows of Ray that this process pickled a moment before, in memory."""


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def problems(source: str, where: str = "") -> list[str]:
    """What is forbidden in a module's text."""
    tree, found = ast.parse(source), []
    for call in _calls(tree):
        name = ast.unparse(call.func)
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name in RUNS_CODE | LEAVES_TRACES or (name == "pickle.loads" and where not in OWN_PICKLES):
            found.append(f"{call.lineno}: {name}")
        if given.get("shell") not in (None, "False"):
            found.append(f"{call.lineno}: a shell")
        if given.get("verify") == "False":
            found.append(f"{call.lineno}: certificates are not checked")
        if name in NEEDS and given.get(NEEDS[name][0]) != str(NEEDS[name][1]):
            found.append(f"{call.lineno}: {name} without {NEEDS[name][0]}={NEEDS[name][1]}")
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and _is_everything(node.type) and not _passes_on(node):
            found.append(f"{node.lineno}: everything is caught")
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        found += [f"{node.lineno}: {name}" for name in names if name in FETCHES or name.split(".")[0] in FETCHES]
    return found


def _is_everything(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    names = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(ast.unparse(name) in ("Exception", "BaseException") for name in names)


def _passes_on(handler: ast.ExceptHandler) -> bool:
    """Whether it raises again what it caught (to clean up, or to tell kinds apart that have no class)."""
    return any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))


def test_nothing_forbidden_is_written() -> None:
    found = {}
    for path in FILES:
        where = path.relative_to(PACKAGE).as_posix()
        if wrong := problems(path.read_text(encoding="utf-8"), where):
            found[where] = wrong
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import pickle\npickle.loads(b'')",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import numpy as np\nnp.load('x')",
        "try:\n    pass\nexcept Exception:\n    pass",
        "try:\n    pass\nexcept (OSError, BaseException):\n    pass",
        "try:\n    pass\nexcept:\n    pass",
        "import requests",
        "from urllib.request import urlopen",
        "httpx.get('x', verify=False)",
    ],
)
def test_the_reading_sees_it(text: str) -> None:
    """The test above is worth what this shows."""
    assert problems(text)


# --- names in other people's files ---

ESCAPES = ["../secret.jpg", "a/../../secret.jpg", "/etc/hostname", "..", "./../secret.jpg", "a\0b.jpg"]


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    assert not is_inside(tmp_path, name)


@pytest.mark.parametrize("name", ["a.jpg", "a/b.jpg", "a/../b.jpg", "..a/b.jpg", "./b.jpg"])
def test_names_that_stay(name: str, tmp_path: Path) -> None:
    assert is_inside(tmp_path, name)
    assert is_inside(tmp_path, str(tmp_path / name))
    assert is_inside(Path("/"), f"/{name}")


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/hostname", "a/../../secret.jpg"])
def test_a_dataset_names_only_what_it_holds(name: str, tmp_path: Path) -> None:
    from facellava.instruct import sources

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.csv").write_text(f"file,expression\n{name},happiness\n")
    with pytest.raises(SourceLayout, match="not below"):
        list(sources.get("folder").read(tmp_path / "data", "train"))


def _llava(folder: Path, **changes: object) -> Path:
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Happiness."}]
    folder.mkdir(exist_ok=True)
    entry = {"id": "a", "image": "a.jpg", "conversations": said, **changes}
    (folder / "train.json").write_text(json.dumps([entry]))
    return folder


@pytest.mark.parametrize("changes", [{"image": "../secret.jpg"}, {"landmarks": "../secret.npy"}])
def test_imported_conversations_take_nothing_from_elsewhere(changes: dict[str, object], tmp_path: Path) -> None:
    """The bytes of a private file must not end up in a dataset that is passed on."""
    pytest.importorskip("pyarrow")
    from facellava.instruct.importer import import_llava

    folder = _llava(tmp_path / "given", rows=[{"source": "x"}], pixels=True, **changes)
    (tmp_path / "secret.jpg").write_bytes(b"private")
    (folder / "a.jpg").write_bytes(b"public")
    np.save(tmp_path / "secret.npy", np.zeros((68, 2)))
    assert import_llava(folder / "train.json", tmp_path / "out") == 0
    ledger = (tmp_path / "out" / "rejections.jsonl").read_text()
    assert "outside" in ledger
    assert b"private" not in b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_training_reads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from facellava.training.llava_folder import LlavaFolder

    with pytest.raises(UsageError, match="not below"):
        LlavaFolder(_llava(tmp_path / "given", image="../secret.jpg"))


@pytest.mark.parametrize("clip", ["../../outside", "/tmp/outside", "a/b", ".."])
def test_exported_files_have_plain_names(clip: str, tmp_path: Path) -> None:
    """A row of somebody else says how its clip is called; exports write a file of that name."""
    pytest.importorskip("pyarrow")
    from facellava.instruct.dataset import read_dataset
    from facellava.instruct.importer import import_llava

    folder = _llava(tmp_path / "given", rows=[{"source": "x", "clip": clip}], pixels=True)
    (folder / "a.jpg").write_bytes(b"public")
    assert import_llava(folder / "train.json", tmp_path / "out") == 1
    (row,) = read_dataset(tmp_path / "out")
    assert row.clip == clip
    assert Path(row.file_name).name == row.file_name
    assert row.file_name.count(".") == 1


@pytest.mark.parametrize("shards", ["../secret.safetensors", "/etc/hostname"])
def test_an_index_of_shards_names_only_its_neighbours(shards: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from facellava.model.layouts.source import open_source

    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shards}}))
    with pytest.raises(FacellavaError, match="not beside it"):
        open_source(tmp_path)


def test_weights_are_named_by_the_register_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facellava import weights

    monkeypatch.setenv("FACELLAVA_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="registered are"):
        weights.resolve("../../etc/passwd")


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    """Opening one would wait for ever."""
    from facellava.face import read_media

    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(FileMissing, match="pipe"):
        read_media(tmp_path / "pipe.jpg")
