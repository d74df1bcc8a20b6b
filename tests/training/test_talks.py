"""Folders of conversations: both layouts say the same, filters say what they drop, leaks are refused."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("torch")

from rows_world import make_row
from world import faces, write_world

from facellava.errors import DamagedMedia, FileMissing, LeakFound, UsageError
from facellava.instruct.export import export
from facellava.training.experts import choose
from facellava.training.recipe import DataConfig, SettingConfig
from facellava.training.setting import enforce
from facellava.training.talks import Corpus, load_corpus, open_folder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        *faces(9, videos=2),
        make_row(
            "units", "action_units", ("AU12",), source="other", clip="mine-train000", description="AU12 is active."
        ),
        make_row("age", "age", 31, source="other", clip="mine-train000", description="31 years old."),
        make_row("real", "deepfake", "real", source="other", clip="own", description="Real.", subject="p"),
        *faces(2, subset="test"),
    ]
    return write_world(tmp_path_factory.mktemp("talks"), rows, margin=0.25, crop="corner")


def corpus(path: Path, **more) -> Corpus:
    return load_corpus(DataConfig((str(path),), **more))


def test_parquet_comes_back(dataset: Path) -> None:
    found = corpus(dataset)
    assert len(found.talks) == 12 and len(found.held_out) == 2
    talk = next(t for t in found.talks if t.id == "other/units")
    assert talk.turns == (("What is it?", "AU12 is active."),) and talk.task == "action_units"
    assert talk.labels["AU12"] is True and talk.labels["AU4"] is False and talk.margin == 0.25
    video = found.talks[8 - 1 + 1]
    assert video.frames == 6 and video.labels == {"expression": "disgust"}
    clip = found.folder(video).clip(video)
    assert clip.frames.shape == (6, 256, 256, 3) and clip.blendshapes.shape == (6, 52)
    assert (clip.margin, clip.crop) == (0.25, "corner")


def test_llava_json_says_the_same(dataset: Path, tmp_path: Path) -> None:
    export(dataset, "llava", tmp_path / "llava")
    ours, theirs = open_folder(dataset), open_folder(tmp_path / "llava")
    for one, other in zip(ours.talks, theirs.talks, strict=True):
        same = ("id", "source", "split", "subject", "task", "turns", "labels", "frames", "margin", "crop", "origins")
        assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
        assert ours.address(one) == theirs.address(other)
        a, b = ours.clip(one), theirs.clip(other) if one.frames == 1 else None
        if b is not None:
            assert np.array_equal(a.frames, b.frames)
            np.testing.assert_allclose(a.landmarks, b.landmarks, atol=1e-6)


def test_a_source_under_another_name_is_known_by_its_reader(tmp_path: Path) -> None:
    """In a build and in an export of it, so that zero-shot settings refuse both."""
    data = write_world(tmp_path / "data", faces(8, source="films"))
    (data / "recipe.json").write_text('{"sources": [{"name": "dfew", "rename": "films"}]}')
    export(data, "llava", tmp_path / "llava")
    for folder in (data, tmp_path / "llava"):
        with pytest.raises(LeakFound, match="zero-shot on dfew, but 8 conversations come from there"):
            enforce(corpus(folder), SettingConfig("zero-shot", ("dfew",)))


def test_all_rows_about_a_face_as_one_conversation(dataset: Path) -> None:
    found = corpus(dataset, multi_turn=True)
    assert len(found.talks) == 10
    talk = next(t for t in found.talks if len(t.turns) == 3)
    assert talk.task == "mixed" and talk.labels["AU12"] and talk.labels["age"] == 31
    assert talk.labels["expression"] == "anger" and talk.origins == {"mine", "other"}


def test_filters_count_what_they_drop(dataset: Path) -> None:
    found = corpus(dataset, tasks=("expression",), exclude=("other",), limit=4)
    assert {t.source for t in found.talks} == {"mine"} and len(found.talks) == 4
    assert found.left_out == {"excluded source": 3, "over the limit of its source": 5}
    assert [t.id for t in corpus(dataset, limit=4).talks] == [t.id for t in corpus(dataset, limit=4).talks]
    with pytest.raises(UsageError, match=r"data.exclude names 'dfew', which is not in the data; it has mine, other"):
        corpus(dataset, exclude=("dfew",))
    with pytest.raises(UsageError, match=r"data.tasks names 'emotion'"):
        corpus(dataset, tasks=("emotion",))
    with pytest.raises(UsageError, match=r"data.shares names 'renders'"):
        corpus(dataset, shares={"renders": 0.5})
    with pytest.raises(UsageError, match="no conversation is left to train on: 12 other task"):
        corpus(dataset, tasks=("attributes",))


def test_no_data_there(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="holds no training data: give OUT/dataset of 'facellava data build'"):
        corpus(tmp_path)
    (tmp_path / "train.json").write_text('[{"image": "a.jpg", "conversations": [{"from": "gpt", "value": "x"}]}]')
    with pytest.raises(UsageError, match=r"train.json, conversation 0: questions and answers must come by turns"):
        corpus(tmp_path)
    (tmp_path / "train.json").write_text("[{")
    with pytest.raises(UsageError, match="is no JSON"):
        corpus(tmp_path)


def test_pixels_that_may_not_be_passed_on(tmp_path: Path) -> None:
    from world import save_clips

    from facellava.instruct.dataset import write_dataset

    rows = faces(2)
    write_dataset(tmp_path / "dataset", rows, save_clips(rows, tmp_path / "clips"), pixels=lambda _: False)
    found = corpus(tmp_path / "dataset")
    with pytest.raises(FileMissing, match=r"has no pixels in .* as its licence forbids passing them on"):
        found.folder(found.talks[0]).clip(found.talks[0])


def test_foreign_media_must_be_crops(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    turns = '[{"from": "human", "value": "<image>\\nWho smiles?"}, {"from": "gpt", "value": "Nobody."}]'
    (tmp_path / "train.json").write_text(f'[{{"image": "a.png", "conversations": {turns}}}]')
    found = corpus(tmp_path)
    assert found.talks[0].turns == (("Who smiles?", "Nobody."),) and found.talks[0].task == "mixed"
    with pytest.raises(DamagedMedia, match="a picture of 300 x 200 pixels, but crops are 256 x 256"):
        found.folder(found.talks[0]).clip(found.talks[0])


# --- settings ---


def leaky(tmp_path: Path, **sample) -> Path:
    rows = [
        make_row("a", source="dfew", **sample),
        make_row("b", source="mafw"),
        make_row("dfew/c", source="real_faces"),
    ]
    return write_world(tmp_path, rows)


def test_zero_shot_refuses_the_benchmark_under_any_name(tmp_path: Path) -> None:
    path = leaky(tmp_path)
    setting = SettingConfig("zero-shot", ("dfew",))
    with pytest.raises(LeakFound, match=r"2 conversations come from there .*data.exclude = \['dfew', 'real_faces'\]"):
        enforce(corpus(path), setting)
    with pytest.raises(LeakFound, match=r"1 conversations .*\(real_faces/dfew/c is one\)"):
        enforce(dataclasses.replace(corpus(path), talks=[t for t in corpus(path).talks if t.source != "dfew"]), setting)
    found = corpus(path, exclude=("dfew",))
    assert [t.id for t in found.talks] == ["mafw/b"], "real_faces takes its clips from there: excluded as well"
    found.excluded = [dataclasses.replace(t, digest="1") for t in found.excluded]
    enforce(found, setting)
    found.talks = [dataclasses.replace(t, digest="1") for t in found.talks]
    with pytest.raises(LeakFound, match="the same files under another name"):
        enforce(found, setting)


def test_fine_tuned_keeps_the_training_split_of_one_fold(tmp_path: Path) -> None:
    found = corpus(leaky(tmp_path, meta={"fold": 2}))
    with pytest.raises(UsageError, match="the data holds nothing of it"):
        enforce(found, SettingConfig("fine-tuned", ("disfa",)))
    with pytest.raises(LeakFound, match="fine-tuned on fold 1, but 2 conversations are of another"):
        enforce(corpus(leaky(tmp_path / "x", meta={"fold": 2})), SettingConfig("fine-tuned", ("dfew",), fold=1))
    enforce(found, SettingConfig("fine-tuned", ("mafw",)))
    assert [t.id for t in found.talks] == ["mafw/b"] and found.left_out == {"not of the benchmark": 2}
    tested = corpus(leaky(tmp_path / "y", split="test"))
    with pytest.raises(LeakFound, match="1 conversations are of its test split"):
        enforce(tested, SettingConfig("fine-tuned", ("dfew",)))


def test_rows_without_a_clip_are_named_after_their_own_bytes(dataset: Path) -> None:
    folder = open_folder(dataset)
    one, two = (dataclasses.replace(talk, place=(talk.place[0], "")) for talk in folder.talks[:2])
    assert folder.address(one) == folder.address(one) != folder.address(two)
    assert len(folder.address(one)) == 64


def test_labels_can_be_those_that_the_answers_state(tmp_path: Path) -> None:
    """Table 12: what was annotated without labels must not be trained with them."""
    rows = [
        make_row("a", label="anger", source="mine", description="The displayed expression is fear."),
        make_row("b", label="anger", source="mine", description="The face looks at the camera."),
        make_row("c", "action_units", ("AU12",), source="mine", description="AU4 is active."),
    ]
    data = write_world(tmp_path, [*rows, *faces(2, subset="test")])
    found = corpus(data, stated=True)
    labels = {talk.id: talk.labels for talk in found.talks}
    assert labels["mine/a"] == {"expression": "fear"}
    assert "mine/b" not in labels
    assert labels["mine/c"]["AU4"] is True and labels["mine/c"]["AU12"] is False
    assert found.left_out == {"answer without a label": 1}
    assert {talk.id: talk.labels for talk in corpus(data).talks}["mine/a"] == {"expression": "anger"}


def test_a_damaged_cache_entry_is_made_again(tmp_path: Path) -> None:
    import torch

    from facellava.training.features import FeatureCache

    cache = FeatureCache(tmp_path, "tower")
    cache.put("clip", {"vision_features": torch.ones(1, 2, 3)})
    path = cache.path("clip")
    path.write_bytes(path.read_bytes()[:-4])
    assert cache.get("clip") is None
    cache.put("clip", {"vision_features": torch.ones(1, 2, 3)})
    assert cache.get("clip") is not None


def test_a_head_sees_faces_of_every_source(tmp_path: Path) -> None:
    rows = [*faces(40, source="large"), *faces(6, source="small"), *faces(3, source="tiny")]
    found = corpus(write_world(tmp_path / "data", rows))
    assert sum(map(len, choose(found.talks, found).values())) == 49
    chosen = choose(found.talks, found, most=15)
    assert Counter(talks[0].source for talks in chosen.values()) == {"large": 6, "small": 6, "tiny": 3}
    backwards = choose(found.talks[::-1], found, most=15)
    assert {t.id for talks in chosen.values() for t in talks} == {t.id for talks in backwards.values() for t in talks}
    assert choose([], found) == {}
