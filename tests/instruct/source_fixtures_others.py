"""Tiny copies of the datasets of action units, attributes, ages and manipulated faces, and of a user's own folder."""

from __future__ import annotations

import json
from pathlib import Path

import source_fixtures_expression as expression
from source_fixtures import Breakage, Fixture, edit, put, rename, write

from facellava import tasks
from facellava.errors import SourceLayout

DISFA_CODED = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
DISFA = {
    "SN001": ({12: 3, 25: 2, 6: 1}, {5: 4}),
    "SN002": ({1: 5, 2: 2}, {}),
    "SN003": ({4: 1}, {26: 2}),
    "SN004": ({9: 2}, {}),
}
"""Subject -> intensities of its frames; what is not named is 0."""


def disfa(root: Path) -> None:
    """Four subjects of two coded frames, both cameras."""
    for subject, frames in DISFA.items():
        for unit in DISFA_CODED:
            lines = [f"{n},{frame.get(unit, 0)}" for n, frame in enumerate(frames, 1)]
            write(root, f"ActionUnit_Labels/{subject}/{subject}_au{unit}.txt", *lines)
        put(root, *(f"Videos_{side}Camera/{side}Video{subject}_comp.avi" for side in ("Left", "Right")))


BP4D_UNITS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)


def bp4d_row(frame: int, active: tuple[int, ...], unknown: tuple[int, ...] = ()) -> str:
    """A coded frame: 99 columns, of which those outside the twelve are unknown."""
    values = ["9" if n in unknown or n not in BP4D_UNITS else str(int(n in active)) for n in range(1, 100)]
    return ",".join([str(frame), *values])


def bp4d(root: Path) -> None:
    """Two people; three digits in the first session, four in the second; a frame in which nothing is known."""
    header = ",".join(map(str, range(100)))
    coding = "AUCoding/AU_OCC"
    write(root, f"{coding}/F001_T1.csv", header, bp4d_row(19, (6, 12)), bp4d_row(20, (1,), unknown=(2, 4)))
    write(root, f"{coding}/M003_T8.csv", header, bp4d_row(1007, ()), bp4d_row(1008, (), unknown=BP4D_UNITS))
    put(root / "2D+3D", "F001/T1/019.jpg", "F001/T1/020.jpg", "M003/T8/1007.jpg", "M003/T8/1008.jpg")


CELEBA = {
    "000001.jpg": ("0", "2880", ("Smiling", "Young", "Attractive")),
    "000002.jpg": ("0", "2937", ("Male",)),
    "162771.jpg": ("1", "8692", ()),
    "182638.jpg": ("2", "5805", ("Wearing_Hat", "Bald", "5_o_Clock_Shadow")),
}


def celeba(root: Path) -> None:
    """Four pictures of the three parts."""
    names = tasks.get("attributes").names
    rows = []
    for file, (_, _, present) in CELEBA.items():
        rows.append(f"{file} " + " ".join(f"{1 if name in present else -1:>2}" for name in names))
    write(root, "Anno/list_attr_celeba.txt", str(len(CELEBA)), " ".join(names) + " ", *rows)
    write(root, "Eval/list_eval_partition.txt", *(f"{file} {part}" for file, (part, _, _) in CELEBA.items()))
    write(root, "Anno/identity_CelebA.txt", *(f"{file} {person}" for file, (_, person, _) in CELEBA.items()))
    put(root / "Img", *(f"{folder}/{file}" for folder in ("img_celeba", "img_align_celeba") for file in CELEBA))


UTKFACE = {
    "1_0_2_20161219140530307": 1,
    "25_0_1_20170116174525125": 25,
    "26_1_4_20170104183517881": 26,
    "116_1_0_20170120134639935": 116,
    # the official names that lack a part
    "39_1_20170116174525125": 39,
    "61_1_20170109142408075": 61,
    "61_3_20170109150557335": 61,
    "53__0_20170116184028385": 53,
    "24_0_1_20170116220224657 ": 24,
}
UTKFACE_TEST = ("39_1_20170116174525125", "24_0_1_20170116220224657 ")
"""Every sixth by the hash of the name."""


def utkface(root: Path) -> None:
    """Both forms of every face."""
    put(root, *(f"UTKFace/{name}.jpg.chip.jpg" for name in UTKFACE))
    put(root, *(f"part{1 + n % 3}/{name.strip()}.jpg" for n, name in enumerate(UTKFACE)))


MORPH = ("009055_0M54.JPG", "009055_1M54.JPG", "042134_00F21.JPG", "310211_1M16.JPG", "065520_0F77.JPG")


def morph2(root: Path) -> None:
    """Four people; the first has two pictures."""
    header = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"
    rows = []
    for number, photo in enumerate(MORPH):
        person, rest = photo.split("_")
        sex, age = rest.lstrip("01234")[0], rest.split(".")[0][-2:]
        rows.append(f"{person},{number},05/06/1953,06/07/2003,B,{sex},NULL,{age},50,NULL,Album2/{photo}")
    write(root, "morph_2008_nonCommercial.csv", header, *rows)
    put(root / "Album2", *MORPH)


FF_KINDS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
FF_PAIRS = {"train": ("071", "054"), "val": ("720", "672"), "test": ("953", "974")}


def faceforensics(root: Path) -> None:
    """One pair in each split, two compressions."""
    for split, (one, other) in FF_PAIRS.items():
        write(root, f"splits/{split}.json", *json.dumps([[one, other]], indent=2).splitlines())
        for compression in ("c40", "c23"):
            put(root / f"original_sequences/youtube/{compression}/videos", f"{one}.mp4", f"{other}.mp4")
            for kind in FF_KINDS:
                folder = root / f"manipulated_sequences/{kind}/{compression}/videos"
                put(folder, f"{one}_{other}.mp4", f"{other}_{one}.mp4")


def faceforensics_labels(split: str) -> dict[str, str]:
    """Two originals and two directions of four manipulations, two pieces each."""
    one, other = FF_PAIRS[split]
    videos = {f"original/{name}": "real" for name in (one, other)}
    videos |= {f"{kind}/{name}": "fake" for kind in FF_KINDS for name in (f"{one}_{other}", f"{other}_{one}")}
    return {f"faceforensics/{name}#{n}": label for name, label in videos.items() for n in (0, 1)}


FAKEAVCELEB = {
    "RealVideo-RealAudio/African/men/id00076/00109": ("real", "A", "-", "real"),
    "RealVideo-FakeAudio/Asian (South)/women/id01234/00021_fake": ("rtvc", "B", "-", "real"),
    "FakeVideo-RealAudio/Caucasian (American)/men/id00366/00118_id00076_Isiq7cA-DNE_faceswap": (
        *("faceswap", "C", "id00076"),
        "fake",
    ),
    "FakeVideo-FakeAudio/African/men/id00076/00109_10_id00476_wavtolip": ("wav2lip", "D", "id00476", "fake"),
}


def fakeavceleb(root: Path) -> None:
    """One video of each type; the last column of the table has no name."""
    rows = []
    for place, (method, category, target, _) in FAKEAVCELEB.items():
        kind, race, sex, person, file = place.split("/")
        folder = f"FakeAVCeleb/{kind}/{race}/{sex}/{person}"
        rows.append(f"{person},{target},-,{method},{category},{kind},{race},{sex},{file}.mp4,{folder}")
    write(root, "meta_data.csv", "source,target1,target2,method,category,type,race,gender,path,", *rows)
    put(root, *(f"{place}.mp4" for place in FAKEAVCELEB))


def ffhq(root: Path) -> None:
    """The last pictures for training, the first for validation, and the licence beside them."""
    images = root / "images1024x1024"
    put(images, "00000/00000.png", "59000/59999.png", "60000/60000.png", "69000/69999.png")
    write(images, "LICENSE.txt", "see the homepage")


def real_faces(root: Path) -> None:
    """All three parts."""
    expression.dfew(root / "dfew")
    expression.mafw(root / "mafw")
    expression.ferv39k(root / "ferv39k")


def real_faces_labels(split: str) -> dict[str, str]:
    """Every clip of the three parts, genuine."""
    parts = [fixture for fixture in expression.FIXTURES if fixture.source in ("dfew", "mafw", "ferv39k")]
    return {f"real_faces/{name}": "real" for part in parts for name in part.labels[split]}


def folder(root: Path) -> None:
    """A table with every kind of label."""
    write(
        root,
        "labels.csv",
        "file,split,subject,expression,action_units,attributes,age,authenticity,unsure",
        "a.jpg,train,ann,happiness,AU6;AU12,Smiling,31.6,,Young",
        "b.mp4,train,ben,,,,,fake,",
        "c.png,val,cem,fear,,,,,",
        "d.jpg,test,dia,,,,7,real,",
    )
    put(root, "a.jpg", "b.mp4", "c.png", "d.jpg")


FIXTURES = (
    Fixture(
        "disfa",
        disfa,
        labels={
            "train": {
                "disfa/SN001/00000": ("AU12", "AU25"),
                "disfa/SN001/00001": (),
                "disfa/SN002/00000": ("AU1", "AU2"),
                "disfa/SN002/00001": (),
                "disfa/SN003/00000": (),
                "disfa/SN003/00001": ("AU26",),
                "disfa/SN004/00000": ("AU9",),
                "disfa/SN004/00001": (),
            },
            "test": {},
        },
        annotations=(("ActionUnit_Labels",), ("ActionUnit_Labels/SN002/SN002_au9.txt",), ("Videos_LeftCamera",)),
        breakage=Breakage(
            edit("ActionUnit_Labels/SN001/SN001_au12.txt", "1,3", "1,6"),
            (r"SN001_au12\.txt, line 1", "intensity is 6", "documented are 0 to 5"),
        ),
        options=({"threshold": 1}, {"units": "all"}, {"camera": "Right"}, {"every": 2}, {"fold": 1}, {"fold": 3}),
        refused={"threshold": 0, "units": "bp4d", "camera": "left", "every": 0, "fold": 4},
    ),
    Fixture(
        "bp4d",
        bp4d,
        labels={
            "train": {
                "bp4d/F001_T1/0019": ("AU6", "AU12"),
                "bp4d/F001_T1/0020": ("AU1",),
                "bp4d/M003_T8/1007": (),
            },
            "test": {},
        },
        annotations=(("AUCoding/AU_OCC",), ("2D+3D",)),
        breakage=Breakage(
            edit("AUCoding/AU_OCC/M003_T8.csv", "1007,0", "1007,2"),
            (r"M003_T8\.csv, line 2", "AU1 is '2'", "documented are 0, 1, 9"),
        ),
        options=({"every": 2}, {"fold": 1}, {"fold": 2}),
        refused={"every": 0, "fold": 4},
    ),
    Fixture(
        "celeba",
        celeba,
        labels={
            "train": {"celeba/000001": ("Attractive", "Smiling", "Young"), "celeba/000002": ("Male",)},
            "val": {"celeba/162771": ()},
            "test": {"celeba/182638": ("5_o_Clock_Shadow", "Bald", "Wearing_Hat")},
        },
        annotations=(
            ("Anno/list_attr_celeba.txt",),
            ("Anno/identity_CelebA.txt",),
            ("Eval/list_eval_partition.txt",),
            ("Img/img_celeba",),
        ),
        breakage=Breakage(
            edit("Anno/list_attr_celeba.txt", "000002.jpg -1", "000002.jpg  0"),
            (r"list_attr_celeba\.txt, line 4", "5_o_Clock_Shadow is '0'", "documented are 1, -1"),
        ),
        options=({"images": "img_align_celeba"},),
        refused={"images": "img_celeba_hq"},
    ),
    Fixture(
        "utkface",
        utkface,
        labels={
            "train": {
                f"utkface/UTKFace/{name.strip()}": age for name, age in UTKFACE.items() if name not in UTKFACE_TEST
            },
            "test": {f"utkface/UTKFace/{name.strip()}": UTKFACE[name] for name in UTKFACE_TEST},
        },
        annotations=(("UTKFace",),),
        breakage=Breakage(
            rename("UTKFace/116_1_0_20170120134639935.jpg.chip.jpg", "UTKFace/117_1_0_20170120134639935.jpg.chip.jpg"),
            (r"117_1_0_.*\.jpg", "expected a name age_gender_race_date", "documented are ages from 0 to 116"),
        ),
        options=({"images": "wild"},),
        refused={"images": "both"},
    ),
    Fixture(
        "morph2",
        morph2,
        labels={
            "train": {
                "morph2/009055_0M54": 54,
                "morph2/009055_1M54": 54,
                "morph2/042134_00F21": 21,
                "morph2/065520_0F77": 77,
            },
            "test": {"morph2/310211_1M16": 16},
        },
        annotations=(("morph_2008_nonCommercial.csv",),),
        breakage=Breakage(
            edit("morph_2008_nonCommercial.csv", "NULL,21,", "NULL,-2,"),
            (r"morph_2008_nonCommercial\.csv, line 4", "age is -2", "documented are 16 to 77"),
        ),
    ),
    Fixture(
        "faceforensics",
        faceforensics,
        labels={split: faceforensics_labels(split) for split in FF_PAIRS},
        annotations=(
            *((f"splits/{split}.json",) for split in FF_PAIRS),
            ("original_sequences/youtube/c40/videos",),
            ("manipulated_sequences/NeuralTextures/c40/videos",),
        ),
        breakage=Breakage(
            edit("splits/val.json", '"672"', "672"),
            (r"val\.json, entry 0", r'expected a pair such as \["033", "097"\]'),
            error=SourceLayout,  # what is labelled is the folder
        ),
        options=({"compression": "c23"}, {"chunk_seconds": 0}, {"manipulations": ["FaceSwap"]}),
        refused={"compression": "c0", "chunk_seconds": -1, "manipulations": ["FaceShifter"]},
    ),
    Fixture(
        "fakeavceleb",
        fakeavceleb,
        labels={"train": {f"fakeavceleb/{place}": facts[-1] for place, facts in FAKEAVCELEB.items()}},
        annotations=(("meta_data.csv",),),
        breakage=Breakage(
            edit("meta_data.csv", "B,RealVideo-FakeAudio", "B,RealVideo-MuteAudio"),
            (r"meta_data\.csv, line 3", "type is 'RealVideo-MuteAudio'", "documented are RealVideo-RealAudio"),
        ),
        options=({"generated_voice": "skip"},),
        refused={"generated_voice": "fake"},
    ),
    Fixture(
        "ffhq",
        ffhq,
        labels={
            "train": {"ffhq/00000": None, "ffhq/59999": None},
            "val": {"ffhq/60000": None, "ffhq/69999": None},
        },
        annotations=(("images1024x1024",),),
        breakage=None,
    ),
    Fixture(
        "real_faces",
        real_faces,
        labels={split: real_faces_labels(split) for split in ("train", "test")},
        annotations=(
            ("dfew", "mafw", "ferv39k"),
            ("dfew/EmoLabel_DataSplit/train(single-labeled)/set_1.csv",),
            ("ferv39k/4_setups/All_scenes/test_All.csv",),
        ),
        breakage=Breakage(
            edit("mafw/Train & Test Set/single/no_caption/set_1/train.txt", "fear", "boredom"),
            (r"train\.txt, line 5", "label is 'boredom'", "documented are"),
        ),
        free=("dfew", "mafw", "ferv39k"),
    ),
    Fixture(
        "folder",
        folder,
        labels={
            "train": {
                "folder/a.jpg@expression": "happiness",
                "folder/a.jpg@action_units": ("AU6", "AU12"),
                "folder/a.jpg@attributes": ("Smiling",),
                "folder/a.jpg@age": 32,
                "folder/b.mp4": "fake",
            },
            "val": {"folder/c.png": "fear"},
            "test": {"folder/d.jpg@age": 7, "folder/d.jpg@deepfake": "real"},
        },
        annotations=(("labels.csv",),),
        breakage=Breakage(
            edit("labels.csv", "val,cem,fear", "val,cem,dread"),
            (r"labels\.csv, line 4", "expression is 'dread'", "known: anger, .*surprise"),
        ),
        options=(
            {"file": "labels.csv", "ignore": ["fear"], "where": {"subject": "ann"}},
            {"columns": {"age": ""}},
            {"groups": {"who": "subject"}, "at_least": {"age": 20}},
        ),
        refused={"task": "attributes"},
        free=(
            *("file", "columns", "values", "ignore", "known", "where", "active_from", "inactive_to", "licence"),
            *("redistribute", "groups", "at_least", "join"),
        ),
    ),
)
