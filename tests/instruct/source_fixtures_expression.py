"""Tiny copies of DFEW, MAFW, FERV39k, CREMA-D, AffectNet, RAF-DB, MER2023 and FABA-Instruct."""

from __future__ import annotations

import json
from pathlib import Path

from source_fixtures import Breakage, Fixture, edit, put, rename, write


def dfew(root: Path) -> None:
    """Two folds; the first clips lie flat, clip 1601 in the folder its archive unpacks to."""
    train, test = (f"EmoLabel_DataSplit/{part}(single-labeled)" for part in ("train", "test"))
    header, rows = "video_name,label", ("1,1", "2,2", "3,3", "1601,4", "16372,5", "4,6", "5,7")
    for number, (learned, held) in {1: (rows[:5], rows[5:]), 2: (rows[2:], rows[:2])}.items():
        write(root, f"{train}/set_{number}.csv", header, *learned)
        write(root, f"{test}/set_{number}.csv", header, *held)
    put(root / "Clip/original", "1.mp4", "2.mp4", "3.mp4", "4.mp4", "5.mp4", "part_2/1601.mp4", "part_11/16372.mp4")


def mafw(root: Path) -> None:
    """The seven classes that are kept and the four that are not."""
    splits = "Train & Test Set/single/no_caption/set_1"
    kept = ["00001.mp4 sadness", "00002.mp4 anger", "00003.mp4 neutral", "00004.mp4 surprise", "00005.mp4 fear"]
    write(root, f"{splits}/train.txt", *kept, "00006.mp4 contempt", "00007.mp4 anxiety", "00008.mp4 helplessness")
    write(root, f"{splits}/test.txt", "00009.mp4 happiness", "00010.mp4 disgust", "00011.mp4 disappointment")
    put(root / "data/clips", *(f"{number:05}.mp4" for number in range(1, 12)))


def ferv39k(root: Path) -> None:
    """Names without endings, a space before the label, no header."""
    setup = "4_setups/All_scenes"
    train = ["Action/Happy/0267 Happy", "Crime/Angry/0001 Angry", "War/Fear/0012 Fear", "School/Neutral/0003 Neutral"]
    test = ["Action/Sad/0268 Sad", "Crisis/Disgust/0002 Disgust", "Social/Surprise/0042 Surprise"]
    write(root, f"{setup}/train_All.csv", *train)
    write(root, f"{setup}/test_All.csv", *test)
    put(root / "0_7_LabelClips", *(f"{line.split()[0]}.mp4" for line in train + test))


CREMA_D_CODES = {
    "1001_DFA_ANG_XX": "anger",
    "1001_IEO_HAP_HI": "happiness",
    "1002_IEO_DIS_LO": "disgust",
    "1040_ITH_SAD_X": "sadness",  # the one official name with such a level
    "1090_IOM_FEA_MD": "fear",
    "1091_WSI_NEU_XX": "neutral",
}


def crema_d(root: Path) -> None:
    """All 91 actors, six clips."""
    rows = [f"{1000 + n},{20 + n % 55},{'Male' if n % 2 else 'Female'},Caucasian,Not Hispanic" for n in range(1, 92)]
    write(root, "VideoDemographics.csv", "ActorID,Age,Sex,Race,Ethnicity", *rows)
    put(root / "VideoFlash", *(f"{name}.flv" for name in CREMA_D_CODES))


def affectnet_rows(numbers: dict[str, str]) -> list[str]:
    """Rows as the release has them; a picture without a face has no box."""
    marks = "86.1;206.2;87.3;240.5"
    box = {"10": "NULL,NULL,NULL,NULL,NULL", "": f"134,134,899,899,{marks}"}
    return [f"{file},{box.get(label, box[''])},{label},0.17,-0.03" for file, label in numbers.items()]


AFFECTNET_HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
)
AFFECTNET_TRAIN = {f"{689 + n}/{n:056x}.jpg": str(n) for n in range(11)}
AFFECTNET_VAL = {"1000/ab.jpg": "1", "1001/cd.JPG": "7"}


def affectnet(root: Path) -> None:
    """Every number from 0 to 10 once in the training list."""
    lists, images = "Manually_Annotated_file_lists", "Manually_Annotated_Images"
    write(root, f"{lists}/training.csv", AFFECTNET_HEADER, *affectnet_rows(AFFECTNET_TRAIN))
    write(root, f"{lists}/validation.csv", AFFECTNET_HEADER, *affectnet_rows(AFFECTNET_VAL))
    put(root / images, *AFFECTNET_TRAIN, *AFFECTNET_VAL)


def raf_db(root: Path) -> None:
    """Both forms of the pictures."""
    lines = [*(f"train_{n:05}.jpg {n}" for n in range(1, 8)), "test_0001.jpg 5", "test_0002.jpg 4"]
    write(root, "EmoLabel/list_patition_label.txt", *lines)
    stems = [line.split(".")[0] for line in lines]
    put(root / "Image", *(f"original/{s}.jpg" for s in stems), *(f"aligned/{s}_aligned.jpg" for s in stems))


def mer2023(root: Path) -> None:
    """Clips of both endings and a file that is none."""
    put(root / "test3", "sample_00000000.avi", "samplenew_00006611.mp4")
    write(root, "test3/readme.txt", "unlabelled")


def faba_entry(part: str, number: int, question: str, answer: str) -> dict[str, object]:
    """One entry in the release's form."""
    name = f"AffectNet/AffectNet_v2/{number}/{number:056x}"
    return {
        "source": "AffectNet",
        "image": f"FABAInstruct/{part}/images/{name}.jpg",
        "id": name,
        "conversations": [{"from": "human", "value": f"{question}\n<image>"}, {"from": "gpt", "value": answer}],
        "landmark": f"FABAInstruct/{part}/landmarks/{name}.npy",
    }


FABA_UNITS = (
    "1. AU4 - Brow Lowerer: the brows are drawn together.\n2. AU15 - Lip Corner Depressor: the corners are down."
)
FABA = {
    "train": {
        "emotion": {
            916: "The person shows a happy expression. The cheeks are lifted.",
            917: "The expression is one of surprise, with raised brows.",
            918: "The hair falls over the forehead.",  # says nothing about the task
        },
        "au": {916: FABA_UNITS},
    },
    "eval": {"emotion": {1194: "The face looks sad, and its gaze is lowered."}, "au": {1194: "AU12 is active."}},
}


def faba_instruct(root: Path) -> None:
    """Two tasks, two parts."""
    for part, kinds in FABA.items():
        for kind, answers in kinds.items():
            entries = [faba_entry(part, number, "What is seen?", answer) for number, answer in answers.items()]
            write(root, f"{part}/{part}_{kind}_anno.json", *json.dumps(entries, indent=2).splitlines())
            put(root, *(str(entry["image"]).removeprefix("FABAInstruct/") for entry in entries))


def faba_id(part: str, number: int, task: str) -> str:
    """The id of an entry."""
    return f"faba_instruct/{part}/images/AffectNet/AffectNet_v2/{number}/{number:056x}@{task}"


FIXTURES = (
    Fixture(
        "dfew",
        dfew,
        labels={
            "train": {
                "dfew/00001": "happiness",
                "dfew/00002": "sadness",
                "dfew/00003": "neutral",
                "dfew/01601": "anger",
                "dfew/16372": "surprise",
            },
            "test": {"dfew/00004": "disgust", "dfew/00005": "fear"},
        },
        annotations=(
            ("EmoLabel_DataSplit/train(single-labeled)/set_1.csv",),
            ("EmoLabel_DataSplit/test(single-labeled)/set_1.csv",),
            ("Clip/original",),
        ),
        breakage=Breakage(
            edit("EmoLabel_DataSplit/train(single-labeled)/set_1.csv", "3,3", "3,8"),
            (r"set_1\.csv, line 4", "label is '8'", "documented are 1, 2, 3, 4, 5, 6, 7"),
        ),
        options=({"fold": 2},),
        refused={"fold": 6},
    ),
    Fixture(
        "mafw",
        mafw,
        labels={
            "train": {
                "mafw/00001": "sadness",
                "mafw/00002": "anger",
                "mafw/00003": "neutral",
                "mafw/00004": "surprise",
                "mafw/00005": "fear",
            },
            "test": {"mafw/00009": "happiness", "mafw/00010": "disgust"},
        },
        annotations=(
            ("Train & Test Set/single/no_caption/set_1/train.txt",),
            ("Train & Test Set/single/no_caption/set_1/test.txt",),
            ("data/clips",),
        ),
        breakage=Breakage(
            edit("Train & Test Set/single/no_caption/set_1/test.txt", "disgust", "boredom"),
            (r"test\.txt, line 2", "label is 'boredom'", "documented are anger, .*contempt"),
        ),
        refused={"fold": "1"},
    ),
    Fixture(
        "ferv39k",
        ferv39k,
        labels={
            "train": {
                "ferv39k/Action/Happy/0267": "happiness",
                "ferv39k/Crime/Angry/0001": "anger",
                "ferv39k/War/Fear/0012": "fear",
                "ferv39k/School/Neutral/0003": "neutral",
            },
            "test": {
                "ferv39k/Action/Sad/0268": "sadness",
                "ferv39k/Crisis/Disgust/0002": "disgust",
                "ferv39k/Social/Surprise/0042": "surprise",
            },
        },
        annotations=(
            ("4_setups/All_scenes/train_All.csv",),
            ("4_setups/All_scenes/test_All.csv",),
            ("0_7_LabelClips",),
        ),
        breakage=Breakage(
            edit("4_setups/All_scenes/train_All.csv", "0001 Angry", "0001 Contempt"),
            (r"train_All\.csv, line 2", "label is 'Contempt'", "documented are Angry, Disgust"),
        ),
    ),
    Fixture(
        "crema_d",
        crema_d,
        labels={"train": {f"crema_d/{name}": label for name, label in CREMA_D_CODES.items()}, "test": {}},
        annotations=(("VideoDemographics.csv",), ("VideoFlash",)),
        breakage=Breakage(
            rename("VideoFlash/1002_IEO_DIS_LO.flv", "VideoFlash/1002_IEO_SUR_LO.flv"),
            (r"1002_IEO_SUR_LO\.flv", "documented emotions are ANG, DIS, FEA, HAP, NEU, SAD"),
        ),
        options=({"fold": 1}, {"fold": 5}),
        refused={"fold": 6},
    ),
    Fixture(
        "affectnet",
        affectnet,
        labels={
            "train": {
                f"affectnet/{file}": label
                for file, label in zip(
                    AFFECTNET_TRAIN,
                    ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"),
                    strict=False,
                )
            },
            "val": {"affectnet/1000/ab.jpg": "happiness"},
        },
        annotations=(
            ("Manually_Annotated_file_lists/training.csv",),
            ("Manually_Annotated_file_lists/validation.csv",),
            ("Manually_Annotated_Images",),
        ),
        breakage=Breakage(
            edit("Manually_Annotated_file_lists/validation.csv", "240.5,7,", "240.5,11,"),
            (r"validation\.csv, line 3", "expression is '11'", "documented are 0, 1, .*10"),
        ),
        options=({"task": "action_units"},),
        refused={"task": "age"},
    ),
    Fixture(
        "raf_db",
        raf_db,
        labels={
            "train": {
                "raf_db/train_00001": "surprise",
                "raf_db/train_00002": "fear",
                "raf_db/train_00003": "disgust",
                "raf_db/train_00004": "happiness",
                "raf_db/train_00005": "sadness",
                "raf_db/train_00006": "anger",
                "raf_db/train_00007": "neutral",
            },
            "test": {"raf_db/test_0001": "sadness", "raf_db/test_0002": "happiness"},
        },
        annotations=(("EmoLabel/list_patition_label.txt",), ("Image/original",)),
        breakage=Breakage(
            edit("EmoLabel/list_patition_label.txt", "train_00003.jpg 3", "train_00003.jpg 0"),
            (r"list_patition_label\.txt, line 3", "label is '0'", "documented are 1, 2, 3, 4, 5, 6, 7"),
        ),
        options=({"images": "aligned"},),
        refused={"images": "cropped"},
    ),
    Fixture(
        "mer2023",
        mer2023,
        labels={"train": {"mer2023/sample_00000000": None, "mer2023/samplenew_00006611": None}},
        annotations=(("test3",),),
        breakage=None,
    ),
    Fixture(
        "faba_instruct",
        faba_instruct,
        labels={
            "train": {
                faba_id("train", 916, "expression"): "happiness",
                faba_id("train", 917, "expression"): "surprise",
                faba_id("train", 918, "expression"): None,
                faba_id("train", 916, "action_units"): ("AU4", "AU15"),
            },
            "test": {
                faba_id("eval", 1194, "expression"): "sadness",
                faba_id("eval", 1194, "action_units"): ("AU12",),
            },
        },
        annotations=(
            ("train/train_emotion_anno.json", "train/train_au_anno.json"),
            ("eval/eval_emotion_anno.json", "eval/eval_au_anno.json"),
        ),
        breakage=None,  # its labels are what our parser reads in free text
    ),
)
