"""What each reader makes of its dataset's labels, splits, people and media."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from source_fixtures import clip, edit, fixtures, put, write
from source_fixtures_expression import AFFECTNET_TRAIN
from source_fixtures_others import BP4D_UNITS, DISFA_CODED

from facellava import tasks
from facellava.errors import LabelUnknown, SourceLayout, UsageError
from facellava.face import read_windows
from facellava.instruct import sources
from facellava.types import Sample

EXPRESSIONS = {"anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"}


@pytest.fixture
def build(tmp_path: Path):
    """Writes a tiny copy and returns its root."""

    def made(name: str) -> Path:
        fixtures()[name].build(tmp_path / name)
        return tmp_path / name

    return made


def read(name: str, root: Path, split: str = "train", **options: object) -> list[Sample]:
    return list(sources.get(name).read(root, split, **options))


def by_id(samples: list[Sample]) -> dict[str, Sample]:
    return {sample.id.partition("/")[2]: sample for sample in samples}


# expressions


def test_every_expression_reader_maps_to_the_seven() -> None:
    for name in ("dfew", "mafw", "ferv39k", "affectnet", "raf_db"):
        labels = set(sources.get(name).LABELS.values())  # pyright: ignore[reportAttributeAccessIssue]
        assert labels - {None} == EXPRESSIONS, name
    assert set(sources.get("crema_d").LABELS.values()) == EXPRESSIONS - {"surprise"}  # pyright: ignore[reportAttributeAccessIssue]


def test_dfew_finds_clips_flat_or_in_their_archives_folders(build) -> None:
    found = by_id(read("dfew", build("dfew")))
    assert found["00001"].media.as_posix().endswith("Clip/original/1.mp4")
    assert found["01601"].media.as_posix().endswith("Clip/original/part_2/1601.mp4")
    assert found["16372"].media.as_posix().endswith("Clip/original/part_11/16372.mp4")


def test_dfew_folds_hold_the_same_clips_in_other_splits(build) -> None:
    root = build("dfew")
    folds = [{s: {x.id for x in read("dfew", root, s, fold=n)} for s in ("train", "test")} for n in (1, 2)]
    assert folds[0]["train"] | folds[0]["test"] == folds[1]["train"] | folds[1]["test"]
    assert folds[1]["test"] == {"dfew/00001", "dfew/00002"}
    with pytest.raises(SourceLayout, match=r"set_3\.csv"):
        read("dfew", root, fold=3)


def test_crema_d_deals_91_actors_evenly_to_five_folds(build) -> None:
    root = build("crema_d")
    put(root / "VideoFlash", *(f"{actor}_TAI_NEU_XX.flv" for actor in range(1001, 1092)))
    tests = [{sample.subject for sample in read("crema_d", root, "test", fold=fold)} for fold in range(1, 6)]
    assert [len(actors) for actors in tests] == [19, 18, 18, 18, 18]
    assert len(set().union(*tests)) == 91
    assert len({sample.subject for sample in read("crema_d", root, "train", fold=1)}) == 72


def test_crema_d_reads_the_codes_of_the_name_and_the_actors_table(build) -> None:
    sample = by_id(read("crema_d", build("crema_d")))["1040_ITH_SAD_X"]
    assert sample.subject == "1040"
    assert dict(sample.meta) == {
        "native": "SAD",
        "sentence": "ITH",
        "intensity": "X",
        "age": "60",
        "gender": "Female",
        "race": "Caucasian",
        "fold": 5,
    }


@pytest.mark.parametrize("name", ["1092_DFA_ANG_XX", "1001_DFA_ANG", "notes"])
def test_crema_d_refuses_names_outside_its_code(build, name: str) -> None:
    root = build("crema_d")
    put(root / "VideoFlash", f"{name}.flv")
    with pytest.raises(LabelUnknown, match="expected a name ACTOR_SENTENCE_EMOTION_LEVEL"):
        read("crema_d", root)


def test_affectnet_drops_contempt_and_what_is_no_expression(build) -> None:
    samples = read("affectnet", build("affectnet"))
    assert [sample.meta["native"] for sample in samples] == ["0", "1", "2", "3", "4", "5", "6"]
    assert samples[0].box == (134.0, 134.0, 899.0, 899.0)
    assert len(AFFECTNET_TRAIN) == 11


def test_affectnet_for_action_units_has_pictures_without_labels(build) -> None:
    samples = read("affectnet", build("affectnet"), task="action_units")
    assert len(samples) == 7
    assert {(sample.task, sample.label, sample.known) for sample in samples} == {("action_units", None, ())}


def test_affectnet_says_where_a_box_is_no_number(build) -> None:
    root = build("affectnet")
    edit("Manually_Annotated_file_lists/training.csv", "134,134,899", "134,NULL,899")(root)
    with pytest.raises(SourceLayout, match=r"training\.csv, line 2: face_y is 'NULL'"):
        read("affectnet", root)


def test_raf_db_aligned_pictures_have_the_same_ids(build) -> None:
    root = build("raf_db")
    plain, aligned = read("raf_db", root), read("raf_db", root, images="aligned")
    assert [s.id for s in plain] == [s.id for s in aligned]
    assert aligned[0].media.name == "train_00001_aligned.jpg"


@pytest.mark.parametrize("line", ["train_00003.jpg", "train_00003.jpg 3 4"])
def test_a_line_with_other_fields_is_told(build, line: str) -> None:
    root = build("raf_db")
    edit("EmoLabel/list_patition_label.txt", "train_00003.jpg 3", line)(root)
    with pytest.raises(SourceLayout, match="line 3: expected file label, found"):
        read("raf_db", root)


def test_a_table_without_a_column_is_told(build) -> None:
    root = build("dfew")
    edit("EmoLabel_DataSplit/train(single-labeled)/set_1.csv", "video_name,label", "clip,label")(root)
    with pytest.raises(SourceLayout, match=r"line 1: expected the columns video_name, label; video_name is missing"):
        read("dfew", root)


def test_a_medium_that_is_not_there_is_left_for_preprocessing(build) -> None:
    root = build("mafw")
    (root / "data/clips/00001.mp4").unlink()
    sample = by_id(read("mafw", root))["00001"]
    assert sample.media == root / "data/clips/00001.mp4"


def test_faba_instruct_keeps_the_text_and_needs_one_task_only(build) -> None:
    root = build("faba_instruct")
    (root / "train/train_emotion_anno.json").unlink()
    (sample,) = read("faba_instruct", root)
    assert sample.task == "action_units" and "AU4" in str(sample.meta["description"])
    path = root / "train/train_au_anno.json"
    entries = json.loads(path.read_text())
    del entries[0]["conversations"][1]
    path.write_text(json.dumps(entries))
    with pytest.raises(SourceLayout, match=r"train_au_anno\.json, entry 0: expected 'image' and two 'conversations'"):
        read("faba_instruct", root)


# action units


def test_disfa_counts_a_unit_as_active_from_the_threshold_on(build) -> None:
    root = build("disfa")
    first = {t: by_id(read("disfa", root, threshold=t))["SN001/00000"].label for t in (1, 2, 3, 4)}
    assert first == {1: ("AU6", "AU12", "AU25"), 2: ("AU12", "AU25"), 3: ("AU12",), 4: ()}


def test_disfa_knows_eight_units_or_all_twelve(build) -> None:
    root = build("disfa")
    eight, twelve = (by_id(read("disfa", root, units=units))["SN001/00001"] for units in ("disfa", "all"))
    assert eight.known == tasks.get("action_units").subset("disfa") and eight.label == ()
    assert set(twelve.known) == {f"AU{unit}" for unit in DISFA_CODED} and twelve.label == ("AU5",)


def test_disfa_samples_are_frames_that_the_video_holds(build) -> None:
    samples = read("disfa", build("disfa"), every=1)
    first = [sample for sample in samples if sample.subject == "SN001"]
    assert [sample.frame for sample in first] == [0, 1]
    assert {sample.kind for sample in first} == {"image"}
    media = [medium for _, medium in read_windows(first[0].media, [0, 1])]
    assert all(not isinstance(medium, Exception) and medium.frames.shape == (1, 32, 32, 3) for medium in media)


def test_disfa_deals_subjects_in_order_to_three_folds(build) -> None:
    root = build("disfa")
    tests = [{s.subject for s in read("disfa", root, "test", fold=fold)} for fold in (0, 1, 2, 3)]
    assert tests == [set(), {"SN001", "SN004"}, {"SN002"}, {"SN003"}]
    assert {s.subject for s in read("disfa", root, fold=1)} == {"SN002", "SN003"}


def test_disfa_wants_frames_in_order_and_files_of_one_length(build) -> None:
    root = build("disfa")
    path = root / "ActionUnit_Labels/SN001/SN001_au4.txt"
    path.write_text("1,0\n3,0\n")
    with pytest.raises(SourceLayout, match=r"SN001_au4\.txt, line 2: expected frame 2"):
        read("disfa", root)
    path.write_text("1,0\n")
    with pytest.raises(SourceLayout, match="SN001: the files of the units differ in their number of frames"):
        read("disfa", root)


def test_bp4d_leaves_unknown_units_out_and_frames_without_any(build) -> None:
    found = by_id(read("bp4d", build("bp4d")))
    assert set(found) == {"F001_T1/0019", "F001_T1/0020", "M003_T8/1007"}
    assert found["F001_T1/0019"].known == tasks.get("action_units").subset("bp4d")
    assert set(found["F001_T1/0020"].known) == {f"AU{unit}" for unit in BP4D_UNITS} - {"AU2", "AU4"}
    assert found["F001_T1/0020"].media.name == "020.jpg"
    assert found["M003_T8/1007"].meta["gender"] == "M"


def test_bp4d_reads_the_other_official_folder_too(build) -> None:
    root = build("bp4d")
    before = read("bp4d", root)
    (root / "2D+3D").rename(root / "Sequences(2D+3D)")
    after = read("bp4d", root)
    assert [s.id for s in after] == [s.id for s in before] and all(s.media.is_file() for s in after)


def test_bp4d_wants_the_units_numbers_in_its_first_row(build) -> None:
    root = build("bp4d")
    edit("AUCoding/AU_OCC/F001_T1.csv", ",17,", ",17b,")(root)
    with pytest.raises(SourceLayout, match=r"F001_T1\.csv, line 1: expected the units' numbers; AU17 is missing"):
        read("bp4d", root)


# attributes


def test_celeba_knows_all_forty_of_every_picture(build) -> None:
    root = build("celeba")
    samples = [s for split in ("train", "val", "test") for s in read("celeba", root, split)]
    assert {sample.known for sample in samples} == {tasks.get("attributes").names}
    assert [sample.subject for sample in samples] == ["2880", "2937", "8692", "5805"]
    assert len(tasks.get("attributes").names) == 40


def test_celeba_reads_the_aligned_pictures_on_request(build) -> None:
    sample = read("celeba", build("celeba"), images="img_align_celeba")[0]
    assert sample.media.parent.name == "img_align_celeba"


@pytest.mark.parametrize("file", ["Eval/list_eval_partition.txt", "Anno/identity_CelebA.txt"])
def test_celeba_wants_every_picture_in_all_three_lists(build, file: str) -> None:
    root = build("celeba")
    lines = (root / file).read_text().splitlines(keepends=True)
    (root / file).write_text("".join(lines[1:]))
    with pytest.raises(SourceLayout, match=rf"list_attr_celeba\.txt, line 3: expected 000001\.jpg in {file}, too"):
        read("celeba", root)


def test_celeba_wants_its_forty_names(build) -> None:
    root = build("celeba")
    edit("Anno/list_attr_celeba.txt", "Bald", "Bold")(root)
    with pytest.raises(LabelUnknown, match=r"line 2: attribute is 'Bold'; documented are 5_o_Clock_Shadow"):
        read("celeba", root)
    edit("Anno/list_attr_celeba.txt", "Bold ", "")(root)
    with pytest.raises(SourceLayout, match="line 2: expected the forty attributes; Bald is missing"):
        read("celeba", root)


# ages


def test_utkface_reads_ages_of_malformed_official_names(build) -> None:
    root = build("utkface")
    found = by_id([s for split in ("train", "test") for s in read("utkface", root, split)])
    assert dict(found["UTKFace/25_0_1_20170116174525125"].meta) == {"gender": "0", "race": "1"}
    assert dict(found["UTKFace/61_1_20170109142408075"].meta) == {"gender": "1"}
    assert dict(found["UTKFace/61_3_20170109150557335"].meta) == {}
    assert dict(found["UTKFace/53__0_20170116184028385"].meta) == {}


def test_utkface_never_puts_two_forms_of_a_face_into_two_splits(build) -> None:
    root = build("utkface")
    for split in ("train", "test"):
        aligned, wild = (
            {Path(s.id).name for s in read("utkface", root, split, images=images)} for images in ("aligned", "wild")
        )
        assert aligned == wild and aligned


def test_utkface_holds_about_a_sixth_back(tmp_path: Path) -> None:
    put(tmp_path, *(f"UTKFace/30_0_1_{20170116174525125 + n}.jpg.chip.jpg" for n in range(600)))
    assert 75 < len(read("utkface", tmp_path, "test")) < 125


def test_morph2_keeps_people_apart_and_their_ids(build) -> None:
    root = build("morph2")
    samples = by_id(read("morph2", root))
    assert samples["009055_0M54"].subject == samples["009055_1M54"].subject == "009055"
    assert samples["042134_00F21"].media == root / "Album2/042134_00F21.JPG"
    assert samples["042134_00F21"].meta["gender"] == "F"


# manipulated faces


def test_faceforensics_pieces_cover_a_video_without_gap_or_overlap(build) -> None:
    samples = [s for s in read("faceforensics", build("faceforensics")) if s.meta["video"] == "071"]
    assert [sample.window for sample in samples] == [(0.0, 3.0), (3.0, pytest.approx(7.25))]
    whole = [medium for _, medium in read_windows(samples[0].media, [s.window for s in samples])]
    assert [0 if isinstance(m, Exception) else len(m.frames) for m in whole] == [12, 17]


@pytest.mark.parametrize(("seconds", "ends"), [(2.0, [2.0, 4.0, 6.0, 7.25]), (4.0, [4.0, 7.25]), (5.0, [7.25])])
def test_faceforensics_joins_a_short_last_piece_to_the_one_before(build, seconds: float, ends: list[float]) -> None:
    found = read("faceforensics", build("faceforensics"), chunk_seconds=seconds)
    windows = [sample.window for sample in found if sample.meta["video"] == "071"]
    assert [window[1] for window in windows if window] == pytest.approx(ends)


def test_faceforensics_options(build) -> None:
    root = build("faceforensics")
    whole = read("faceforensics", root, chunk_seconds=0)
    assert Counter(s.label for s in whole) == {"real": 2, "fake": 8}
    assert all(s.window is None for s in whole)
    assert {s.meta["native"] for s in read("faceforensics", root, manipulations=["Face2Face"])} == {
        "original",
        "Face2Face",
    }
    assert all("c23" in s.media.parts for s in read("faceforensics", root, compression="c23"))
    assert {s.subject for s in whole} == {"054-071"}
    with pytest.raises(UsageError, match="manipulations is 'Face2Face', but must be a list"):
        read("faceforensics", root, manipulations="Face2Face")


def test_faceforensics_passes_a_damaged_video_on_whole(build) -> None:
    root = build("faceforensics")
    (root / "original_sequences/youtube/c40/videos/071.mp4").write_bytes(clip("mp4")[:100])
    (sample,) = [s for s in read("faceforensics", root) if s.meta["video"] == "071"]
    assert sample.id == "faceforensics/original/071" and sample.window is None


@pytest.mark.parametrize(
    ("text", "said"), [("[\n [1, 2]", "line 2: expected a JSON list"), ("{}", "entry 0: expected a pair")]
)
def test_faceforensics_split_files_are_lists_of_pairs(build, text: str, said: str) -> None:
    root = build("faceforensics")
    (root / "splits/test.json").write_text(text)
    with pytest.raises(SourceLayout, match=rf"test\.json, {said}"):
        read("faceforensics", root, "test")


def test_fakeavceleb_judges_the_face_and_not_the_voice(build) -> None:
    root = build("fakeavceleb")
    assert Counter(s.label for s in read("fakeavceleb", root)) == {"real": 2, "fake": 2}
    assert Counter(s.label for s in read("fakeavceleb", root, generated_voice="skip")) == {"real": 1, "fake": 2}


def test_fakeavceleb_does_without_the_column_without_a_name(build) -> None:
    root = build("fakeavceleb")
    before = read("fakeavceleb", root)
    lines = (root / "meta_data.csv").read_text().splitlines()
    write(root, "meta_data.csv", *(line.rpartition(",")[0] for line in lines))
    assert read("fakeavceleb", root) == before


def test_real_faces_uses_what_is_there_and_what_is_named(build, tmp_path: Path) -> None:
    root = build("real_faces")
    (root / "mafw").rename(tmp_path / "elsewhere")
    assert {s.id.split("/")[1] for s in read("real_faces", root)} == {"dfew", "ferv39k"}
    named = read("real_faces", root, mafw=str(tmp_path / "elsewhere"))
    assert {s.id.split("/")[1] for s in named} == {"dfew", "mafw", "ferv39k"}
    assert {s.meta["native"] for s in named} >= {"mafw sadness", "dfew happiness"}
    with pytest.raises(SourceLayout, match=r"mafw: .*typo lacks"):
        read("real_faces", root, mafw=str(tmp_path / "typo"))
